"""Fakes of the ports of the pipeline: scripted answers, otherwise correct behaviour."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.envelope import Envelope
from schemas.last_error import LastError
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    ErrorKind,
    Evidence,
    LookupResult,
    SeveralTasks,
    StaleDeliveryError,
    TaskCreated,
    TaskFound,
    TaskNotFound,
    UnconfirmedError,
)
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.follow_up import LastWord, ProvisioningEvent, Watch
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import ClaimAnswer, Completed, Granted, Unavailable

NOW = 1_800_000_000.0

REQUEST: dict[str, Any] = {
    "request_id": "r-1",
    "project_id": "p1",
    "region": "cn-north-4",
    "task": {"name": "t", "description": "d", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"},
}

BUSY = CallError(Evidence.REFUSED, ErrorKind.RETRY, CallStatus.ANSWERED, http_status=400, error_code="DCS.4026")
UNSENT = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.CONNECTION_REFUSED)
TIMEOUT = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT)
THROTTLED = CallError(Evidence.REFUSED, ErrorKind.THROTTLED, CallStatus.ANSWERED, http_status=429, retry_after=30.0)
FULL = CallError(Evidence.REFUSED, ErrorKind.CAPACITY, CallStatus.ANSWERED, http_status=400, error_code="DCS.4035")
REJECTED = CallError(
    Evidence.REFUSED,
    ErrorKind.REJECTED,
    CallStatus.ANSWERED,
    http_status=400,
    error_code="DCS.4013",
    error_msg="no such VPC",
)
STALE = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE)
FORBIDDEN = CallError(
    Evidence.REFUSED, ErrorKind.FORBIDDEN, CallStatus.ANSWERED, http_status=403, error_code="DCS.2003"
)


def request(**changes: Any) -> bytes:
    """The body of a good request with `changes` at its top level; a change to None leaves the field out."""
    content = {name: value for name, value in (REQUEST | changes).items() if value is not None}
    return json.dumps(content).encode()


@dataclass(eq=False)
class FakeDelivery:
    """A delivery that records how it was settled."""

    body: bytes = field(default_factory=request)
    headers: Mapping[str, object] = field(default_factory=dict)
    redelivered: bool = False
    exchange: str = ""
    message_id: str | None = "m-1"
    correlation_id: str | None = None
    content_encoding: str | None = None
    reply_to: str | None = None
    properties: Any = None
    published_at: float | None = None
    is_ours: bool = True
    lost: bool = False
    done: list[str] = field(default_factory=list)

    def is_lost(self) -> bool:
        return self.lost

    async def is_still_ours(self) -> bool:
        return self.is_ours and not self.lost

    def release_body(self) -> None:
        self.done.append("release_body")

    async def ack(self) -> None:
        await self._do("ack")

    async def reject(self) -> None:
        await self._do("reject")

    async def dead_letter(self) -> None:
        await self._do("dead_letter")

    async def _do(self, what: str) -> None:
        await asyncio.sleep(0)
        if self.lost or not {"ack", "reject", "dead_letter"}.isdisjoint(self.done):
            raise StaleDeliveryError
        self.done.append(what)


@dataclass
class Published:
    """One confirmed publish."""

    what: str
    body: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, object] = field(default_factory=dict)
    retry_level: int = 0
    correlation_id: str | None = None
    reply_to: str | None = None
    event_id: str = ""
    is_repeated: bool = False
    journal: str = ""


class FakePublisher:
    """Publisher that confirms everything after `refusals` refusals."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.published: list[Published] = []

    def _confirm(self, published: Published) -> None:
        if self.refusals:
            self.refusals -= 1
            raise UnconfirmedError("scripted")
        self.published.append(published)

    async def event(
        self,
        completed: Completed | ProvisioningEvent,
        *,
        correlation_id: str | None,
        reply_to: str | None,
        trace: Mapping[str, object],
    ) -> None:
        await asyncio.sleep(0)
        body, id_ = json.loads(completed.body), completed.event_id
        published = Published("event", body, dict(trace), 0, correlation_id, reply_to, id_, journal=completed.journal)
        published.is_repeated = completed.is_repeated
        self._confirm(published)

    async def watch(
        self, body: bytes, checks: int, headers: Mapping[str, object], *, correlation_id: str | None
    ) -> None:
        await asyncio.sleep(0)
        self._confirm(Published("watch", json.loads(body), headers, checks, correlation_id))

    async def publish_to_retry_queue(self, delivery: Any, retry_level: int, headers: Mapping[str, object]) -> None:
        self._confirm(Published("retry", headers=headers, retry_level=retry_level))

    async def park(self, delivery: Any, headers: Mapping[str, object]) -> None:
        self._confirm(Published("park", headers=headers))

    async def hand_back(self, delivery: Any, headers: Mapping[str, object]) -> None:
        self._confirm(Published("hand_back", headers=headers))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [published.body for published in self.published if published.what == "event"]


class FakeDcs:
    """DCS with scripted answers; the last one repeats. An asyncio.Event in a script is waited for first."""

    def __init__(self, create: Iterable[Any] = (), find: Iterable[Any] = (), probe: Iterable[Any] = ()) -> None:
        self.probes = list(probe) or [TaskNotFound()]
        self.creates = list(create) or [TaskCreated("i-1", "j-1", "d-1")]
        self.finds = list(find) or [TaskNotFound()]
        self.created: list[MigrationRequest] = []
        self.calls: list[str] = []
        self.since: list[float] = []
        self.may_exist: list[bool] = []
        self.was_sent: list[bool] = []

    async def create(
        self, migration: MigrationRequest, is_still_allowed: Callable[[], Awaitable[bool]]
    ) -> TaskCreated | CallError:
        if not await is_still_allowed():
            return STALE
        self.calls.append("create")
        self.created.append(migration)
        answer: TaskCreated | CallError = await self._next(self.creates)
        return answer

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        self.calls.append("probe")
        probed: LookupResult | CallError = await self._next(self.probes)
        return probed

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
        self.calls.append("find")
        self.since.append(since)
        self.may_exist.append(may_exist)
        self.was_sent.append(was_sent)
        answer: LookupResult | CallError = await self._next(self.finds)
        return answer

    async def _next(self, script: list[Any]) -> Any:
        step = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(step, asyncio.Event):
            await step.wait()
            return await self._next(script)
        if isinstance(step, Exception):
            raise step
        await asyncio.sleep(0)
        return step


class FakeClaims:
    """Claims that answer `answer` to every take, and record the other calls."""

    def __init__(self, answer: ClaimAnswer | None = None, *, claimed: bool = True) -> None:
        self.answer: ClaimAnswer = answer or Granted()
        self.claimed = claimed
        self.recorded: list[tuple[str, object]] = []
        self.stored: Completed | None = None
        """The outcome that was stored before."""

    @property
    def is_available(self) -> bool:
        return not isinstance(self.answer, Unavailable)

    async def take(self, migration: MigrationRequest, now: float, envelope: Envelope) -> ClaimAnswer:
        return self.answer

    def is_claimed(self, migration: MigrationRequest) -> bool:
        return self.claimed

    async def conclude(self, migration: MigrationRequest, completed: Completed) -> Completed:
        self.recorded.append(("conclude", completed))
        return self.stored or completed

    async def release(
        self, migration: MigrationRequest, last_sent_at: float | None, last_error: LastError | None = None
    ) -> None:
        self.recorded.append(("release", last_sent_at))
        if last_error is not None and last_error.is_conflict:
            self.recorded.append(("conflict", last_error))


class FakeObserver:
    """Observer that records all reports."""

    def __init__(self) -> None:
        self.facts: list[DeliveryFinished] = []
        self.calls: list[tuple[str, object, int]] = []
        self.defects: list[Exception] = []
        self.refusals: list[str] = []
        self.ended_watches: list[tuple[Watch, LastWord]] = []
        self.notes: list[str] = []

    def received(self, *, redelivered: bool) -> None:
        pass

    def called(self, migration: MigrationRequest, operation: str, completed: CallResult, attempt: int) -> None:
        self.calls.append((operation, completed, attempt))

    def settled(self, fact: DeliveryFinished) -> None:
        self.facts.append(fact)

    def failed(self, error: Exception) -> None:
        self.defects.append(error)

    def followed_up(self, watch: Watch, word: LastWord, now: float) -> None:
        self.ended_watches.append((watch, word))

    def unconfirmed(self, reason: str) -> None:
        self.refusals.append(reason)

    def limited(self, limit: int) -> None:
        pass

    def breaker(self, region: str, copy_headers: int) -> None:
        pass

    def note(self, level: Any, event: str, **fields: Any) -> None:
        self.notes.append(event)

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(fact.outcome, fact.reason) for fact in self.facts]


class FakeConsumer:
    """Consumer that records its commands; stopping it may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.recorded: list[str] = []
        self.on_pause: Callable[[], object] = lambda: None
        self._error = error

    async def pause_and_wait(self, why: str) -> None:
        self.recorded.append(f"pause {why}")
        self.on_pause()

    def resume(self, why: str) -> None:
        self.recorded.append(f"resume {why}")

    async def stop(self) -> None:
        self.recorded.append("stop")
        if self._error is not None:
            raise self._error


def task_found(task: str = "i-9") -> TaskFound:
    """Result of a look-up that found one task."""
    return TaskFound(task, "d-9")


def several_tasks(*tasks: str) -> SeveralTasks:
    """Result of a look-up that found several tasks."""
    return SeveralTasks(tasks)


def copy_headers(round_: int = 1, *, last_sent_at: float | None = None, interruptions: int = 0) -> dict[str, object]:
    """The headers of a copy."""
    return Envelope(1, round_, 2, interruptions, 0, NOW - 1000, last_sent_at, True, False).write({})
