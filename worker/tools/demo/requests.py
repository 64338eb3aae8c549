"""Requests of the demo: planned, each with the fault that the fake DCS injects, and tracked to their outcomes.

Outcomes are counted as events arrive, and compared with the tasks that exist.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from math import ceil
from typing import Any, Final, NamedTuple

from schemas.event import SUCCEEDED_KEY, MigrationFailed, MigrationSucceeded, Reason

PROJECT_ID: Final = "0123456789abcdef0123456789abcdef"
FORBIDDEN_PROJECT_ID: Final = "fedcba9876543210fedcba9876543210"
SUCCEEDED: Final = "succeeded"
NO_EVENT: Final = "no answer"

# Short times, so that recovery is visible within seconds. The retry levels after the third are for slow machines, on
# which further calls time out: there the demo takes longer, but does not fail.
WORKER_SETTINGS: Final[Mapping[str, str]] = {
    "WORKER_RETRY_DELAYS": "1,2,3,4",
    "WORKER_DCS_TIMEOUT": "2",
    "WORKER_SETTLE": "3",
}


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A kind of request: its fault, as a `script` of fault steps of the fake DCS, and its expected outcome."""

    fault: str
    share: int
    """Of every 200 requests."""
    script: tuple[str, ...] = ()
    expected: str = SUCCEEDED
    """SUCCEEDED, or the reason of the failure."""
    copies: int = 1
    project: str = PROJECT_ID
    misspelt: bool = False


# The quota of "throttled first" is never reached: the rate that the worker learns from it must not slow down all other
# requests on a slow machine.
REQUEST_KINDS: Final = (
    RequestKind("none", 136),
    RequestKind("duplicate message", 6, copies=2),
    RequestKind("a slow answer", 8, ("slow 0.5",)),
    RequestKind("DCS busy first", 8, ("error 400 DCS.4049", "ok")),
    RequestKind("throttled first", 8, ("throttle 200/second", "ok")),
    RequestKind("reset before acting", 4, ("drop", "ok")),
    RequestKind("503 before acting", 4, ("error 503", "ok")),
    RequestKind("reset after creating", 6, ("create then drop",)),
    RequestKind("502 after creating", 4, ("create then error 502",)),
    RequestKind("answer after the deadline", 4, ("slow 3",)),
    RequestKind("answer without an id", 2, ("create then no id",)),
    RequestKind("created after the deadline", 2, ("create late 2.1",)),
    RequestKind("a VPC that does not exist", 4, ("error 400 DCS.4013",), Reason.REJECTED),
    RequestKind("a project without permission", 2, ("error 403",), Reason.FORBIDDEN, project=FORBIDDEN_PROJECT_ID),
    RequestKind("a misspelt field", 2, expected=Reason.INVALID_REQUEST, misspelt=True),
)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of the demo."""

    request_id: str
    name: str
    kind: RequestKind
    body: bytes


def plan_requests(number: int) -> list[PlannedRequest]:
    """Plan `number` requests, with the kinds spread evenly."""
    spread = sorted(
        ((turn + 0.5) / kind.share, position)
        for position, kind in enumerate(REQUEST_KINDS)
        for turn in range(kind.share)
    )
    kinds = (REQUEST_KINDS[position] for _, position in spread)
    return [_planned(serial, kind) for serial, kind in enumerate(islice(cycle(kinds), number), 1)]


def fault_scripts(planned: Sequence[PlannedRequest]) -> dict[str, list[str]]:
    """The fake DCS's scripts by task name."""
    return {request.name: list(request.kind.script) for request in planned if request.kind.script}


def _planned(serial: int, kind: RequestKind) -> PlannedRequest:
    request_id, name = f"demo-{serial:06}", f"migration-{serial:06}"
    task = {
        "name": name,
        "description": "Creating an online data migration task",
        "vpc_idd" if kind.misspelt else "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481",
        "subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c",
        "security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7",
    }
    body = {"request_id": request_id, "project_id": kind.project, "task": task}
    return PlannedRequest(request_id, name, kind, json.dumps(body).encode())


class RequestAnswer(NamedTuple):
    """What an event of a request says: `created`, `adopted`, or the reason of the failure; and the task's id."""

    outcome: str
    instance_id: str | None


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """All requests of request outcome; latencies are seconds from sending to the event."""

    outcome: str
    requests: int
    p50: float | None
    p95: float | None
    max: float | None
    met: Mapping[str, int]
    """Number of requests by injected fault."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The demo's result; a problem names the request by its id, or the task by its name."""

    requests: int
    seconds: float
    outcomes: tuple[OutcomeRow, ...]
    tasks_expected: int
    tasks_found: int
    problems: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether every request ended as expected, with exactly the expected tasks."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The result as JSON."""
        return {"ok": self.is_ok, **asdict(self)}


class OutcomeTracker:
    """Tracks the outcome of every planned request. `clock` counts seconds."""

    def __init__(self, planned: Sequence[PlannedRequest], clock: Callable[[], float] = time.monotonic) -> None:
        self.planned = planned
        self.outcomes: Counter[str] = Counter()
        self._clock = clock
        self._started_at = clock()
        self._sent_at: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._answers: dict[str, list[RequestAnswer]] = {request.request_id: [] for request in planned}
        self._copies = {request.request_id: request.kind.copies for request in planned}
        self._events_left = sum(self._copies.values())
        self._problems: list[str] = []

    @property
    def answered(self) -> int:
        """Number of requests with an event."""
        return len(self._seconds)

    @property
    def is_complete(self) -> bool:
        """Whether every copy of every request has its event."""
        return not self._events_left

    def counts(self) -> str:
        """Number of requests by outcome."""
        return ", ".join(f"{outcome} {count}" for outcome, count in self.outcomes.most_common()) or "none yet"

    def sent(self, request: PlannedRequest) -> None:
        """A request is about to be sent; of its copies the first counts."""
        self._sent_at.setdefault(request.request_id, self._clock())

    def event(self, kind: str, body: bytes) -> None:
        """An event arrived; `kind` is its routing key."""
        request_id, answer = _read(kind, body)
        if request_id not in self._sent_at:
            self._problems.append(f"an event of a request that was never sent: {request_id}")
            return
        answers = self._answers[request_id]
        answers.append(answer)
        if len(answers) <= self._copies[request_id]:
            self._events_left -= 1
        if len(answers) == 1:
            self._seconds[request_id] = self._clock() - self._sent_at[request_id]
            self.outcomes[answer.outcome] += 1

    def result(self, tasks: Iterable[tuple[str, str]]) -> DemoResult:
        """The result, from name and id of every task that exists."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for name, task_id in tasks:
            ids[name].append(task_id)
        wrong = [
            f"{request.request_id} ({request.kind.fault}): {what}"
            for request in self.planned
            for what in self._problems_of(request, ids.get(request.name, []))
        ]
        unknown = ids.keys() - {request.name for request in self.planned}
        return DemoResult(
            requests=len(self.planned),
            seconds=round(self._clock() - self._started_at, 3),
            outcomes=tuple(self._rows()),
            tasks_expected=sum(request.kind.expected == SUCCEEDED for request in self.planned),
            tasks_found=sum(map(len, ids.values())),
            problems=(*self._problems, *wrong, *(f"a task without a request: {name}" for name in unknown)),
        )

    def _problems_of(self, request: PlannedRequest, task_ids: Sequence[str]) -> Iterable[str]:
        expected, answers = request.kind.expected, self._answers[request.request_id]
        if not answers:
            yield "not answered"
        elif (SUCCEEDED if answers[0].instance_id else answers[0].outcome) != expected:
            yield f"{answers[0].outcome} instead of {expected}"
        if len(task_ids) != (expected == SUCCEEDED):
            yield f"{len(task_ids)} tasks called {request.name}"
        for answer in answers:
            if answer != answers[0]:
                yield f"answered as {answers[0].outcome}, then as {answer.outcome}"
            if answer.instance_id and answer.instance_id not in task_ids:
                yield "answered with the id of another task"

    def _rows(self) -> Iterable[OutcomeRow]:
        grouped: defaultdict[str, list[PlannedRequest]] = defaultdict(list)
        for request in self.planned:
            answers = self._answers[request.request_id]
            grouped[answers[0].outcome if answers else NO_EVENT].append(request)
        for outcome, members in sorted(grouped.items(), key=lambda group: -len(group[1])):
            seconds = sorted(self._seconds[request.request_id] for request in members if outcome != NO_EVENT)
            p50, p95, most = (_percentile(seconds, part) for part in (0.5, 0.95, 1.0))
            met = Counter(request.kind.fault for request in members)
            yield OutcomeRow(outcome, len(members), p50, p95, most, dict(met.most_common()))


async def collect(
    events: AsyncIterable[tuple[str, bytes]],
    tracker: OutcomeTracker,
    on_answered: Callable[[int], None],
    max_silence_seconds: float,
) -> bool:
    """Pass events (routing key and body) to the tracker until it is complete; report how many requests have one.

    False if none came for `max_silence_seconds`: a slow machine takes longer, but as long as events come nothing fails.
    """
    arriving = aiter(events)
    while not tracker.is_complete:
        try:
            async with asyncio.timeout(max_silence_seconds):
                kind, body = await anext(arriving)
        except TimeoutError:
            return False
        tracker.event(kind, body)
        on_answered(tracker.answered)
    return True


def _read(kind: str, body: bytes) -> tuple[str, RequestAnswer]:
    """Request id and answer of an event."""
    if kind == SUCCEEDED_KEY:
        succeeded = MigrationSucceeded.model_validate_json(body)
        return succeeded.request_id, RequestAnswer(succeeded.resolution, succeeded.instance_id)
    failed = MigrationFailed.model_validate_json(body)
    return failed.request_id or "", RequestAnswer(str(failed.reason), None)


def _percentile(ordered: Sequence[float], part: float) -> float | None:
    """The nearest-rank percentile."""
    return round(ordered[max(0, ceil(part * len(ordered)) - 1)], 3) if ordered else None
