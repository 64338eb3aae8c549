"""The built worker: its parts, readiness and status."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from worker import __version__
from worker.config import Settings
from worker.config import describe as described
from worker.observe.observer import WorkerObserver
from worker.pipeline import explain
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.follow_up import FollowUp
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import CLAIMS_AWAY
from worker.pipeline.throttle import Throttle
from worker.policy.retry_policy import CLAIMS_AWAY_MODES, LOOKUP_MODES
from worker.policy.status import Connection, HeldBack, InHand, Readiness, State, Status
from worker.rabbit.connection_supervisor import ConnectionSupervisor
from worker.rabbit.consumer import Consumer
from worker.rabbit.publisher import RabbitPublisher

if TYPE_CHECKING:
    from worker.claims.redis_claims import RedisClaims

BREAKER: Final = "the breaker is open"
"""Consumption pauses while DCS fails."""
HELD: Final = "calls are refused"
"""Consumption pauses while DCS refuses the endpoint or the credentials: a probe ends that."""
REFUSED: Final = "the credentials are refused"
BLOCKED: Final = "the broker blocks publishing"
STUCK: Final = "queues refuse copies of requests"
PAUSES: Final = {
    BREAKER: "breaker",
    HELD: "held",
    REFUSED: "credentials",
    BLOCKED: "blocked",
    STUCK: "queues",
    CLAIMS_AWAY: "claims",
}
"""Reasons to pause, and their names in metrics; other reasons have the same name there."""


@dataclass(frozen=True, slots=True)
class FollowUpParts:
    """The parts that follow up created tasks."""

    dispatcher: Dispatcher[FollowUp]
    consumer: Consumer


@dataclass(slots=True)
class Worker:
    """The built worker."""

    settings: Settings
    observer: WorkerObserver
    dispatcher: Dispatcher[DeliveryPipeline]
    consumer: Consumer
    publisher: RabbitPublisher
    supervisors: tuple[ConnectionSupervisor, ...]
    deduplicator: Deduplicator
    claims: "RedisClaims | None"
    throttle: Throttle
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Details of a reason to pause."""
    follow_up: FollowUpParts | None = None
    started: float = field(default_factory=time.time)

    @property
    def readiness(self) -> Readiness:
        """Whether it consumes; if not, why."""
        broken = [f"{link.name}: {link.state}" for link in self.supervisors if not link.is_up]
        if broken:
            return Readiness(False, "; ".join(broken))
        if self.publisher.is_blocked:
            return Readiness(False, "the broker blocks publishing (memory or disk alarm)")
        pauses = self.consumer.pauses
        details = {"regions": self._regions(), "lookups": self.modes[0], "claims": self.modes[1]}
        if not self.consumer.is_consuming and (
            not pauses or pauses - {"quarantine", BREAKER, HELD, STUCK, CLAIMS_AWAY}
        ):
            said = sorted(self.refusals.get(pause, pause) for pause in pauses)
            return Readiness(False, ", ".join(said) or "not consuming yet", details)
        doing = "paused by the breaker" if BREAKER in pauses else "paused" if HELD in pauses else "consuming"
        if CLAIMS_AWAY in pauses:
            doing = f"paused: {CLAIMS_AWAY} and WORKER_CLAIMS_AWAY is pause, so no create begins; restore Redis"
        if STUCK in pauses:
            doing = f"paused: {self.refusals[STUCK]}"
        return Readiness(True, "; ".join((doing, *explain.reasons(self.throttle))), details)

    @property
    def modes(self) -> tuple[str, str]:
        """When requests are looked up, at which cost, and what replaces claims while Redis is away."""
        settings = self.settings
        claims = f"Redis; while it is away: {CLAIMS_AWAY_MODES[settings.claims_away]}" if self.claims else "none"
        return f"{settings.reconcile}: {LOOKUP_MODES[settings.reconcile]}", claims

    @property
    def held_back(self) -> dict[str, HeldBack]:
        """What holds the requests for each region back, in numbers."""
        now = self.throttle.clock()
        epoch = time.time() - now
        return {name: explain.held_back(region, now, epoch) for name, region in self.throttle.regions.items()}

    def _regions(self) -> dict[str, dict[str, object]]:
        now = self.throttle.clock()
        return {name: explain.facts(region, now) for name, region in self.throttle.regions.items()}

    @property
    def state(self) -> State:
        """State in one word."""
        if "draining" in self.consumer.pauses:
            return "draining"
        if self.consumer.pauses:
            return "paused"
        return "consuming" if self.readiness.is_ready else "waiting"

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Connections; a state may be a text of the other party."""
        broker = [Connection(f"broker, {link.name}", link.state, link.is_up) for link in self.supervisors]
        if self.publisher.is_blocked:
            broker.append(Connection("broker", "blocks publishing (memory or disk alarm)", False))
        if self.claims is None:
            return (*broker, Connection("Redis", "not configured", None))
        is_available = self.claims.is_available
        return (*broker, Connection("Redis", "available" if is_available else "away", is_available))

    def status(self, redact: Callable[[str], str]) -> Status:
        """Content of the status page; `redact` removes secrets from texts of other parties."""
        now = time.monotonic()
        all_in_progress = [
            InHand(*key, now - in_progress.since) for key, in_progress in self.deduplicator.all_in_progress.items()
        ]
        return Status(
            version=__version__,
            state=self.state,
            now=time.time(),
            started=self.started,
            backlog=self.consumer.backlog,
            in_flight=self.dispatcher.in_flight,
            prefetch=self.settings.prefetch,
            in_hand=tuple(sorted(all_in_progress, key=lambda request: -request.seconds)),
            activity=self.observer.activity.read(redact),
            regions={
                region: {**found, "endpoint": self.settings.dcs_endpoints[region]}
                for region, found in self._regions().items()
            },
            connections=tuple(replace(link, state=redact(link.state)) for link in self.connections),
            settings=tuple(described(self.settings)),
        )
