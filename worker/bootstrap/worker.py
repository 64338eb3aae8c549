"""The built worker: its parts, health and status."""

import asyncio
import platform
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
from worker.policy.health import IF_IT_LASTS, Health, HealthStatus, HealthTracker, Observed, redis_away
from worker.policy.retry_policy import CLAIMS_AWAY_MODES, LOOKUP_MODES
from worker.policy.status import Connection, HeldBack, InHand, Status
from worker.policy.throttle.circuit_breaker import BreakerState
from worker.rabbit.connection_supervisor import ConnectionSupervisor
from worker.rabbit.consumer import Consumer
from worker.rabbit.publisher import RabbitPublisher
from worker.rabbit.queue_counts import QueueCounts

if TYPE_CHECKING:
    from worker.claims.redis_claims import RedisClaims

BREAKER: Final = "the breaker is open"
"""Consumption pauses while DCS fails."""
CREDENTIALS: Final = "the credentials are rejected"
REGION: Final = "the endpoints are rejected"
"""Consumption pauses while DCS or IAM rejects the credentials, or DCS every endpoint: a probe ends that."""
BLOCKED: Final = "the broker blocks publishing"
STUCK: Final = "queues refuse copies of requests, or events"
PAUSES: Final = {
    BREAKER: "breaker",
    CREDENTIALS: "credentials",
    REGION: "region",
    BLOCKED: "blocked",
    STUCK: "queues",
    CLAIMS_AWAY: "claims",
}
"""Reasons to pause, and their names in metrics; other reasons have the same name there."""
PAUSED: Final = {
    STUCK: "Queues refuse copies of requests, or events. Check the policies that limit them.",
    CLAIMS_AWAY: "WORKER_CLAIMS_AWAY is pause, so no create begins. Restore Redis (WORKER_CLAIMS_URL).",
}
"""Reasons to pause that `paused` is about, beside the breaker."""
HEALTH_INTERVAL_SECONDS: Final = 1.0
SUBSCRIBE_SECONDS: Final = 2.0
"""Time to have a consumer again after a pause."""


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
    queue_counts: QueueCounts
    redact: Callable[[str], str]
    """Removes secrets from texts of other parties."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Details of a reason to pause."""
    markers: Mapping[str, dict[str, str]] = field(default_factory=dict)
    """Facts of `MarkerCheck`, by region."""
    follow_up: FollowUpParts | None = None
    started: float = field(default_factory=time.time)
    _tracker: HealthTracker = field(default_factory=HealthTracker)
    _status: HealthStatus = HealthStatus.STARTING
    _consuming_at: float | None = None
    """When it last consumed, or paused; None until it paused, or consumed with all connections up."""

    async def watch_health(self) -> None:
        """Judge the health at an interval, so that a change is reported in time."""
        while True:
            self.check_health()
            await asyncio.sleep(HEALTH_INTERVAL_SECONDS)

    def check_health(self) -> Health:
        """The health at this moment; another status than before is reported."""
        now = time.monotonic()
        has_started = self._consuming_at is not None or all(link.is_up for link in self.supervisors)
        if self.consumer.pauses or (self.consumer.is_consuming and has_started):
            self._consuming_at = now
        seen, (lookups, claims) = self._observed(now), self.modes
        health = self._tracker.judge(seen, now)
        health = replace(
            health,
            reason=self.redact(health.reason),
            conditions={name: self.redact(reason) for name, reason in health.conditions.items()},
            details={
                "requests_last_minute": {"succeeded": seen.outcomes.succeeded, "failed": seen.outcomes.failed},
                "lookups": lookups,
                "claims": claims,
                "regions": self._regions(),
            },
        )
        if health.status is not self._status:
            self._status = health.status
            self.observer.health_changed(health.status, health.reason)
        return health

    def _observed(self, now: float) -> Observed:
        pauses, throttle, activity = self.consumer.pauses, self.throttle, self.observer.activity
        credentials = throttle.credentials.message if throttle.credentials.is_held else ""
        calls, has_tasks = activity.calls()
        return Observed(
            is_draining="draining" in pauses,
            has_started=self._consuming_at is not None,
            disconnected=self._disconnected(now),
            paused=[self._paused(pause) for pause in pauses & PAUSED.keys()],
            is_paused_by_breaker=BREAKER in pauses,
            credentials=credentials,
            credentials_error=throttle.credentials.error if credentials else None,
            regions=explain.stopped(throttle),
            is_breaker_closed=all(region.breaker.state is BreakerState.CLOSED for region in throttle.regions.values()),
            projects=explain.paused_projects(throttle),
            claims_away=CLAIMS_AWAY_MODES[self.settings.claims_away] if self._is_redis_away else "",
            claims_error=self.claims.fault if self.claims else "",
            outcomes=activity.outcomes(),
            calls=calls,
            has_tasks=has_tasks,
            parked=activity.parked_last_hour(),
            missing_queues=sorted(self.queue_counts.missing),
        )

    def _paused(self, pause: str) -> str:
        said = self.refusals.get(pause, PAUSED[pause])
        return f"{redis_away(self.claims.fault)}. {said}" if pause == CLAIMS_AWAY and self.claims else said

    @property
    def _is_redis_away(self) -> bool:
        return self.claims is not None and not self.claims.is_available

    def _disconnected(self, now: float) -> str:
        """Why it cannot work with the broker; empty if it can."""
        if broken := {link.state: None for link in self.supervisors if not link.is_up}:
            limit = f"The worker tries again, and exits after {self.settings.broker_timeout:g} s"
            return f"No connection to RabbitMQ: {'; '.join(broken)}. {limit}; check the broker with: dcs-worker doctor."
        if self.publisher.is_blocked:
            return "The broker blocks publishing (memory or disk alarm). Free memory or disk space of the broker."
        if not self.consumer.is_answering:
            return self.consumer.silence
        if self._consuming_at is not None and now - self._consuming_at > SUBSCRIBE_SECONDS:
            return f"The broker has no consumer of this replica, which subscribes again. {IF_IT_LASTS}"
        return ""

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
        return {name: explain.held_back(region, now) for name, region in self.throttle.regions.items()}

    @property
    def oldest_request_seconds(self) -> float | None:
        """Age of the oldest request in flight; None if there is none."""
        starts = [in_progress.age_starts_at for in_progress in self.deduplicator.all_in_progress.values()]
        return max(0.0, time.time() - min(starts)) if starts else None

    def _regions(self) -> dict[str, dict[str, object]]:
        now = self.throttle.clock()
        regions, markers = self.throttle.regions, self.markers
        return {name: explain.facts(region, now) | markers.get(name, {}) for name, region in regions.items()}

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Connections; a state may be a text of the other party."""
        broker = [Connection(f"broker, {link.name}", link.state, link.is_up) for link in self.supervisors]
        if self.publisher.is_blocked:
            broker.append(Connection("broker", "blocks publishing (memory or disk alarm)", False))
        if self.claims is None:
            return (*broker, Connection("Redis", "not configured", None))
        is_away = self._is_redis_away
        return (*broker, Connection("Redis", "unreachable" if is_away else "available", not is_away))

    def status(self) -> Status:
        """Content of the status page."""
        now = time.monotonic()
        all_in_progress = [
            InHand(*key, now - in_progress.since) for key, in_progress in self.deduplicator.all_in_progress.items()
        ]
        return Status(
            version=__version__,
            replica=platform.node(),
            now=time.time(),
            started=self.started,
            queued=self.queue_counts.messages,
            in_flight=self.dispatcher.in_flight,
            prefetch=self.settings.prefetch,
            in_hand=tuple(sorted(all_in_progress, key=lambda request: -request.seconds)),
            activity=self.observer.activity.read(self.redact),
            regions={
                region: {**found, "endpoint": self.settings.dcs_endpoints[region]}
                for region, found in self._regions().items()
            },
            connections=tuple(replace(link, state=self.redact(link.state)) for link in self.connections),
            settings=tuple(described(self.settings)),
        )
