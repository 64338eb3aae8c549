"""The built worker, and what it can say of itself."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from worker import __version__
from worker.config import Settings
from worker.config import describe as described
from worker.observe.observer import Observer
from worker.pipeline import explain
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.gate import Gate
from worker.policy.held import Held
from worker.policy.readiness import Readiness
from worker.policy.status import Connection, InHand, State, Status
from worker.rabbit.connection_supervisor import ConnectionSupervisor
from worker.rabbit.consumer import Consumer
from worker.rabbit.publisher import RabbitPublisher

if TYPE_CHECKING:
    from worker.claims.redis_claims import RedisClaims

BREAKER: Final = "the breaker is open"
"""Why consumption pauses while the service is sick, which is no fault of this replica."""
REFUSED: Final = "the credentials are refused"
BLOCKED: Final = "the broker blocks publishing"
PAUSES: Final = {BREAKER: "breaker", REFUSED: "credentials", BLOCKED: "blocked"}
"""Reasons to pause and what metrics call them; others are called what they are."""


@dataclass(slots=True)
class Worker:
    """The built worker."""

    settings: Settings
    observer: Observer
    service: Dispatcher
    consumer: Consumer
    publisher: RabbitPublisher
    supervisors: tuple[ConnectionSupervisor, ...]
    copies: Deduplicator
    claims: "RedisClaims | None"
    gate: Gate
    refusals: Mapping[str, str] = field(default_factory=dict)
    """What is known of a reason to pause besides its name."""
    started: float = field(default_factory=time.time)

    @property
    def readiness(self) -> Readiness:
        """Whether it consumes, and if not, why."""
        broken = [f"{link.name}: {link.state}" for link in self.supervisors if not link.is_up]
        if broken:
            return Readiness(False, "; ".join(broken))
        if self.publisher.is_blocked:
            return Readiness(False, "the broker blocks publishing (memory or disk alarm)")
        pauses, lanes = self.consumer.pauses, self.gate.lanes
        details = {"regions": {region: explain.facts(lane) for region, lane in lanes.items()}}
        if not self.consumer.is_consuming and (not pauses or pauses - {"quarantine", BREAKER}):
            said = sorted(self.refusals.get(pause, pause) for pause in pauses)
            return Readiness(False, ", ".join(said) or "not consuming yet", details)
        doing = "paused by the breaker" if BREAKER in pauses else "consuming"
        return Readiness(True, "; ".join((doing, *explain.reasons(lanes.values()))), details)

    @property
    def held_back(self) -> dict[str, Held]:
        """What holds the requests for each region back, in numbers."""
        epoch = time.time() - time.monotonic()
        return {region: explain.held(lane, epoch) for region, lane in self.gate.lanes.items()}

    @property
    def state(self) -> State:
        """What it does, in a word."""
        if "draining" in self.consumer.pauses:
            return "draining"
        if self.consumer.pauses:
            return "paused"
        return "consuming" if self.readiness.is_ready else "waiting"

    @property
    def connections(self) -> tuple[Connection, ...]:
        """What it lives on; states may be told by others, in words of theirs."""
        broker = [Connection(f"broker, {link.name}", link.state, link.is_up) for link in self.supervisors]
        if self.publisher.is_blocked:
            broker.append(Connection("broker", "blocks publishing (memory or disk alarm)", False))
        if self.claims is None:
            return (*broker, Connection("Redis", "not configured", None))
        is_available = self.claims.is_available
        return (*broker, Connection("Redis", "available" if is_available else "away", is_available))

    def status(self, redact: Callable[[str], str]) -> Status:
        """Everything worth showing; `clean` takes secrets out of what others said."""
        now = time.monotonic()
        flights = [InHand(*key, now - flight.since) for key, flight in self.copies.flights.items()]
        return Status(
            version=__version__,
            state=self.state,
            now=time.time(),
            started=self.started,
            backlog=self.consumer.backlog,
            in_flight=self.service.in_flight,
            prefetch=self.settings.prefetch,
            in_hand=tuple(sorted(flights, key=lambda one: -one.seconds)),
            activity=self.observer.activity.read(redact),
            regions={
                region: {**explain.facts(self.gate.lanes[region]), "endpoint": url}
                for region, url in self.settings.dcs_endpoints.items()
            },
            connections=tuple(replace(one, state=redact(one.state)) for one in self.connections),
            settings=tuple(described(self.settings)),
        )
