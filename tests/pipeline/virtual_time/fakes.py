"""Fakes in virtual time: replicas with the real pipeline and throttle, and a fake DCS."""

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.pipeline.virtual_time.event_loop import VirtualTime
from worker.bootstrap.assembly import Ports, build_dispatcher
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.throttle import Throttle
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    Condition,
    ErrorKind,
    Evidence,
    LookupResult,
    NamedLimit,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.follow_up import ProvisioningEvent
from worker.policy.migration_request import MigrationRequest, RequestParser
from worker.policy.outcome import Completed
from worker.policy.retry_policy import ThrottleSettings

if TYPE_CHECKING:
    from tests.pipeline.virtual_time.world import World  # world builds replicas

START_EPOCH_SECONDS = 1_800_000_000.0
CONFIRM_SECONDS = 0.003
DELIVERY_SECONDS = 0.001

UNREACHABLE = CallError(
    Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.CONNECTION_REFUSED, message="connection refused"
)
UNAUTHENTICATED = CallError(
    Evidence.REFUSED, ErrorKind.UNAUTHENTICATED, CallStatus.ANSWERED, http_status=401, error_code="APIGW.0301"
)
FORBIDDEN = CallError(
    Evidence.REFUSED, ErrorKind.FORBIDDEN, CallStatus.ANSWERED, http_status=403, error_code="DCS.2003"
)
FULL = CallError(Evidence.REFUSED, ErrorKind.CAPACITY, CallStatus.ANSWERED, http_status=400, error_code="DCS.4035")


@dataclass
class FakeDcs:
    """DCS with faults and quotas by region or by project: its creates, or `all of` its calls."""

    loop: VirtualTime
    latency: float = 0.05
    faults: dict[str, CallError] = field(default_factory=dict)
    fault_seconds: float = 0.002
    quotas: dict[str, tuple[int, Condition]] = field(default_factory=dict)
    names_limits: bool = True
    """Whether a 429 says how many calls are allowed."""
    calls: list[tuple[float, str, str, str]] = field(default_factory=list)
    """Time, operation, project, result."""
    created: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    _granted: dict[str, deque[float]] = field(default_factory=dict)

    async def create(
        self, migration: MigrationRequest, is_still_allowed: Callable[[], Awaitable[bool]]
    ) -> TaskCreated | CallError:
        assert await is_still_allowed()
        fault = await self._call("create", migration.project_id, migration.region)
        if fault is not None:
            return fault
        self.created[migration.request_id] += 1
        return TaskCreated(f"i-{migration.request_id}")

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        return await self._call("probe", project_id, region) or TaskNotFound()

    async def find(
        self,
        migration: MigrationRequest,
        since: float,
        on_call: Callable[[], None],
        *,
        may_exist: bool,
        was_sent: bool,
    ) -> LookupResult | CallError:
        on_call()
        fault = await self._call("find", migration.project_id, migration.region)
        if fault is not None:
            return fault
        return TaskFound(f"i-{migration.request_id}") if self.created[migration.request_id] else TaskNotFound()

    async def _call(self, operation: str, project_id: str, region: str) -> CallError | None:
        fault = self.faults.get(region) or self._over_quota(project_id) or self._over_quota(region)
        if fault is None and operation == "create":
            fault = self.faults.get(project_id)
        if fault is None:
            fault = self.faults.get(f"all of {project_id}")
        self.calls.append((self.loop.now, operation, project_id, fault.label if fault else "ok"))
        self.under_way += 1
        await asyncio.sleep(self.fault_seconds if fault else self.latency)
        self.under_way -= 1
        return fault

    def _over_quota(self, key: str) -> CallError | None:
        if key not in self.quotas:
            return None
        calls, scope = self.quotas[key]
        granted = self._granted.setdefault(key, deque())
        while granted and granted[0] <= self.loop.now - 1.0:
            granted.popleft()
        if len(granted) < calls:
            granted.append(self.loop.now)
            return None
        return CallError(
            Evidence.REFUSED,
            ErrorKind.THROTTLED,
            CallStatus.ANSWERED,
            http_status=429,
            condition=scope,
            throttle=NamedLimit(calls, 1.0) if self.names_limits else None,
        )

    def calls_between(self, begin: float, end: float, completed: str | None = None) -> int:
        """Number of calls that started in a time, all or those with this result."""
        return sum(begin <= at < end and completed in (None, how) for at, _, _, how in self.calls)


@dataclass(eq=False)
class Message:
    """A message in a queue."""

    body: bytes
    headers: Mapping[str, object] = field(default_factory=dict)


class Delivery:
    """A delivery whose channel is never lost."""

    redelivered = False
    exchange = ""
    message_id = content_encoding = correlation_id = reply_to = published_at = None
    properties: Any = None

    def __init__(self, message: Message, replica: "Replica") -> None:
        self.message, self.body, self.headers = message, message.body, message.headers
        self._replica = replica

    def is_lost(self) -> bool:
        return False

    async def is_still_ours(self) -> bool:
        return True

    def release_body(self) -> None:
        raise AssertionError("all requests are valid here")

    async def ack(self) -> None:
        self._replica.unacked.discard(self)
        self._replica.world.deliver_waiting()

    async def reject(self) -> None:
        raise AssertionError("a defect")

    async def dead_letter(self) -> None:
        raise AssertionError("no copy is refused here")


class Replica:
    """One replica: its dispatcher, its consumption, and its reports."""

    def __init__(self, world: "World", settings: ThrottleSettings) -> None:
        self.world = world
        self.unacked: set[Delivery] = set()
        self.prefetch, self.paused_by = settings.prefetch, ""
        self.consumption_changes: list[tuple[int, str]] = []
        self.pauses: set[str] = set()
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.limits: list[int] = []
        self.breaker_states: list[int] = []
        random_unit = random.Random(world.rng.random()).random
        self.throttle = Throttle(
            settings, world.dcs.probe, self, self._set_consumption, clock=world.loop.time, random_unit=random_unit
        )
        parser = RequestParser(65536, settings.regions, settings.regions[0], True)
        ports = Ports(
            world.dcs,
            self,
            self,
            self.throttle,
            self,
            now=lambda: START_EPOCH_SECONDS + world.loop.now,
            random_unit=random_unit,
        )
        self.dispatcher = build_dispatcher(ports, world.policy, parser, Deduplicator())

    @property
    def is_consuming(self) -> bool:
        """Whether it may receive another message."""
        return not self.paused_by and not self.pauses and len(self.unacked) < self.prefetch

    def _set_consumption(self, prefetch: int, paused_by: str) -> None:
        self.prefetch, self.paused_by = prefetch, paused_by
        self.consumption_changes.append((prefetch, paused_by))
        self.world.loop.call_later(DELIVERY_SECONDS, self.world.deliver_waiting)

    # The consumer.

    async def pause_and_wait(self, why: str) -> None:
        self.pauses.add(why)

    def resume(self, why: str) -> None:
        self.pauses.discard(why)
        self.world.deliver_waiting()

    async def stop(self) -> None:
        self.pauses.add("draining")

    def receive(self, message: Message) -> None:
        """Receive a message."""
        delivery = Delivery(message, self)
        self.unacked.add(delivery)
        self.world.loop.call_later(DELIVERY_SECONDS, self.dispatcher.deliver, delivery)

    # The publisher.

    async def event(
        self,
        completed: Completed | ProvisioningEvent,
        *,
        correlation_id: str | None,
        reply_to: str | None,
        trace: Mapping[str, object],
    ) -> None:
        await asyncio.sleep(CONFIRM_SECONDS)
        assert isinstance(completed, Completed)
        self.world.ended[json.loads(completed.body)["request_id"]] = (self.world.loop.now, completed.reason)

    async def watch(
        self, body: bytes, checks: int, headers: Mapping[str, object], *, correlation_id: str | None
    ) -> None:
        raise AssertionError("nothing is followed up here")

    async def publish_to_retry_queue(self, delivery: Any, retry_level: int, headers: Mapping[str, object]) -> None:
        await asyncio.sleep(CONFIRM_SECONDS)
        world = self.world
        world.postponed += 1
        world.loop.call_later(
            world.policy.delays[retry_level - 1], world.return_from_retry, Message(delivery.body, headers)
        )

    async def park(self, delivery: Any, headers: Mapping[str, object]) -> None:
        await asyncio.sleep(CONFIRM_SECONDS)
        self.world.parked.append(delivery.message)

    async def hand_back(self, delivery: Any, headers: Mapping[str, object]) -> None:
        await asyncio.sleep(CONFIRM_SECONDS)
        self.world.enqueue(Message(delivery.body, headers))

    # The observer.

    def received(self, *, redelivered: bool) -> None:
        pass

    def called(self, migration: MigrationRequest, operation: str, completed: CallResult, attempt: int) -> None:
        pass

    def settled(self, fact: DeliveryFinished) -> None:
        self.world.outcomes[fact.outcome, fact.reason] += 1

    def followed_up(self, watch: Any, word: Any, now: float) -> None:
        pass

    def failed(self, error: Exception) -> None:
        raise error

    def unconfirmed(self, reason: str) -> None:
        raise AssertionError(reason)

    def limited(self, limit: int) -> None:
        self.limits.append(limit)

    def breaker(self, region: str, state: int) -> None:
        self.breaker_states.append(state)

    def note(self, level: Any, event: str, **fields: Any) -> None:
        self.notes.append((event, fields))

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Logged fields of an event."""
        return [fields for said, fields in self.notes if said == event]
