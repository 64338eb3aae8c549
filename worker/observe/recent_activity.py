"""Recent work for health and the status page: counters updated with every fact, put together on request.

A sliding window has the last minute in slots of a second. An observation costs a few additions.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from worker.policy import error_table, status
from worker.policy.call_result import CallError, CallResult, TaskCreated, TaskFound
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.health import MIN_REQUESTS, RecentCalls, RecentOutcomes, is_judged
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.status import NOTHING, FailureGroup, FaultKind

WINDOW_SECONDS: Final = 60
PARKED_MINUTES: Final = 60
"""For which parked requests are counted."""
MAX_GROUPS_KEPT: Final = 50
MAX_ERROR_CHARACTERS: Final = 300
"""Longest error text that is kept."""
OPERATIONS: Final = {"create": "create calls", "find": "lookups"}
_MIN_SECONDS: Final = 1e-6
_MAX_OPEN_ERRORS: Final = 1024
"""Last errors kept of requests that are still in flight."""
_FailureKey = tuple[str, str]
"""Reason, and error code or what happened instead of an answer."""


def duration_class(seconds: float) -> int:
    """Number of the class that a duration is counted in: four per factor of two, so quantiles are off by an eighth."""
    mantissa, exponent = math.frexp(seconds + _MIN_SECONDS)  # the mantissa is from 4/8 up to 8/8
    return exponent * 4 + int(mantissa * 8)


def quantile(times: Iterable[Counter[int]], share: float) -> float | None:
    """The duration below which this share of all of them lies, from counts by class; None if there were none."""
    merged = sum(times, Counter[int]())
    remaining = merged.total() * share
    for class_number in sorted(merged):
        remaining -= merged[class_number]
        if remaining <= 0:
            exponent, eighths = divmod(class_number - 4, 4)
            return math.ldexp((eighths + 4.5) / 8, exponent)  # the middle of the class
    return None


@dataclass(slots=True)
class CallCount:
    """Calls of one operation in one region."""

    count: int = 0
    failed: int = 0
    requests: set[Key] = field(default_factory=set)
    """Of failed calls; a few are enough."""
    error: CallError | None = None
    """The last one."""

    def add(self, other: "CallCount") -> None:
        """Add later calls."""
        self.count += other.count
        self.failed += other.failed
        self.requests |= other.requests
        self.error = other.error or self.error


@dataclass(slots=True)
class TimeSlot:
    """Counts of one second; those of calls by the `duration_class` of each."""

    number: int
    succeeded: int = 0
    failures: Counter[_FailureKey] = field(default_factory=Counter)
    calls: dict[tuple[str, str], CallCount] = field(default_factory=dict)
    has_tasks: bool = False
    """A call created or found a task."""
    call_times: Counter[int] = field(default_factory=Counter)


class SlidingWindow:
    """The slots of the last minute; empty slots are not stored."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots = deque([TimeSlot(-1)], maxlen=WINDOW_SECONDS)

    def current(self) -> TimeSlot:
        """The current slot."""
        number = int(self._clock())
        if number != self._slots[-1].number:
            self._slots.append(TimeSlot(number))
        return self._slots[-1]

    def slots(self) -> list[TimeSlot]:
        """Those of the last minute, the current one included."""
        oldest = self.current().number - WINDOW_SECONDS + 1
        return [slot for slot in self._slots if slot.number >= oldest]

    def figures(self) -> dict[str, str]:
        """Rates, failures and latency of the last minute by name."""
        slots = self.slots()
        seconds = WINDOW_SECONDS - 1 + self._clock() % 1
        longest = quantile((slot.call_times for slot in slots), 0.95)
        return {
            "succeeded per second": f"{sum(slot.succeeded for slot in slots) / seconds:.1f}",
            "failed": f"{sum(slot.failures.total() for slot in slots):,}",
            "calls per second": f"{sum(slot.call_times.total() for slot in slots) / seconds:.1f}",
            "DCS call latency, p95": NOTHING if longest is None else f"{longest * 1000:,.0f} ms",
        }


class RecentActivity:
    """Counts of recent work, the failures by reason and code, and the last error of each request in flight."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._window = SlidingWindow(monotonic_clock)
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._failures: dict[_FailureKey, FailureGroup] = {}
        """The latest group last."""
        self._parked: Counter[int] = Counter()
        """By minute."""
        self._errors: dict[str, FaultKind] = {}
        self._open_errors: dict[Key, CallError] = {}

    def __repr__(self) -> str:
        return f"<RecentActivity: {sum(self._outcomes.values())} deliveries, {len(self._failures)} kinds of failures>"

    def call_ended(self, seconds: float) -> None:
        """A DCS call ended."""
        self._window.current().call_times[duration_class(seconds)] += 1

    def called(self, migration: MigrationRequest, operation: str, result: CallResult) -> None:
        """A create or a lookup (`find`) for this request ended."""
        slot, error = self._window.current(), result if isinstance(result, CallError) else None
        if isinstance(result, TaskCreated | TaskFound):
            slot.has_tasks = True
        if error is None or error_table.scope(error) is not None:  # else the call was abandoned here
            calls = slot.calls.setdefault((migration.region, operation), CallCount())
            calls.count += 1
            if error is not None:
                calls.failed += 1
                calls.error = error
                if len(calls.requests) < MIN_REQUESTS:
                    calls.requests.add(migration.key)
        if error is not None:
            self._call_failed(migration, error)

    def _call_failed(self, migration: MigrationRequest, error: CallError) -> None:
        counted = self._errors.get(error.label)
        count = counted.count + 1 if counted else 1
        self._errors[error.label] = FaultKind(
            error.label, error.evidence.value, count, self._clock(), _error_text(error)
        )
        if len(self._open_errors) < _MAX_OPEN_ERRORS:
            self._open_errors[migration.key] = error

    def settled(self, fact: DeliveryFinished) -> None:
        """A delivery was handled."""
        self._outcomes[fact.outcome, fact.reason] += 1
        error = self._open_errors.pop(fact.migration.key, None) if self._open_errors and fact.migration else None
        if not fact.is_counted:
            return
        if fact.outcome == "succeeded":
            self._window.current().succeeded += 1
        elif fact.outcome == "failed":
            self._failed(fact, error)

    def delivery_returned(self, reason: str) -> None:
        """A delivery was returned to the queue without an outcome."""
        self._outcomes["returned", reason] += 1

    def outcomes(self) -> RecentOutcomes:
        """The final outcomes of the last minute that are judged."""
        slots = self._window.slots()
        failures: Counter[_FailureKey] = sum((slot.failures for slot in slots), Counter())
        judged = Counter({key: count for key, count in failures.items() if is_judged(key[0], is_repeated=False)})
        succeeded = sum(slot.succeeded for slot in slots)
        if not judged:
            return RecentOutcomes(succeeded)
        ((key, count),) = judged.most_common(1)
        group = self._failures.get(key)
        region, error = (group.region, group.error) if group else (None, None)
        return RecentOutcomes(succeeded, judged.total(), key[0], count, region, error)

    def calls(self) -> tuple[list[RecentCalls], bool]:
        """The calls of the last minute by region and operation, and whether one created or found a task."""
        slots, totals = self._window.slots(), dict[tuple[str, str], CallCount]()
        for slot in slots:
            for key, calls in slot.calls.items():
                totals.setdefault(key, CallCount()).add(calls)
        return [
            RecentCalls(region, OPERATIONS[operation], total.count, total.failed, len(total.requests), total.error)
            for (region, operation), total in totals.items()
        ], any(slot.has_tasks for slot in slots)

    def parked_last_hour(self) -> int:
        """How many requests this replica parked in the last hour."""
        oldest = self._clock() // 60 - PARKED_MINUTES
        for minute in [minute for minute in self._parked if minute <= oldest]:
            del self._parked[minute]
        return self._parked.total()

    def read(self, redact: Callable[[str], str]) -> status.Activity:
        """Everything as plain values; `redact` removes secrets from DCS's texts."""
        return status.Activity(
            figures=self._window.figures(),
            outcomes=dict(self._outcomes.most_common()),
            failures=tuple(
                replace(group, code=redact(group.code), said=redact(_error_text(group.error)))
                for group in reversed(self._failures.values())
            ),
            faults=tuple(
                replace(fault, said=redact(fault.said))
                for fault in sorted(self._errors.values(), key=lambda fault: -fault.at)
            ),
        )

    def _failed(self, fact: DeliveryFinished, error: CallError | None) -> None:
        now, migration = self._clock(), fact.migration
        key = fact.reason, (error.error_code or error.label)[:MAX_ERROR_CHARACTERS] if error else ""
        self._window.current().failures[key] += 1
        if fact.parked:
            self._parked[int(now // 60)] += 1
        before = self._failures.pop(key, None)
        if len(self._failures) >= MAX_GROUPS_KEPT:
            del self._failures[next(iter(self._failures))]
        self._failures[key] = FailureGroup(
            *key,
            count=before.count + 1 if before else 1,
            first=before.first if before else now,
            last=now,
            request_id=migration.request_id if migration else None,
            project_id=migration.project_id if migration else None,
            region=migration.region if migration else None,
            is_parked=fact.parked,
            error=error,
        )


def _error_text(error: CallError | None) -> str:
    if error is None:
        return ""
    words = error.error_msg or error.message
    return " ".join(filter(None, (error.error_code, words)))[:MAX_ERROR_CHARACTERS]
