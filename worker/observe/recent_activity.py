"""Recent work for the status page: counters updated with every fact, put together on request.

A sliding window has the last ten minutes in slots of five seconds: counts and durations. An observation costs a few
additions.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from worker.policy import status
from worker.policy.call_result import CallError
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.status import NOTHING, Chart, FaultKind, Series

SLOT_SECONDS: Final = 5.0
SLOT_COUNT: Final = 120
MAX_FAILURES_KEPT: Final = 20
SLOTS_PER_MINUTE: Final = round(60 / SLOT_SECONDS)
MAX_ERROR_CHARACTERS: Final = 300
"""Longest error text that is kept."""
_MIN_SECONDS: Final = 1e-6
_MAX_OPEN_ERRORS: Final = 1024
"""Last errors kept of requests that are still in flight."""

_OUTCOMES: Final = (("succeeded", "good"), ("failed", "bad"), ("retried", "busy"), ("returned", "idle"))
_CALLS: Final = (("OK", "good"), ("4xx", "bad"), ("429", "busy"), ("5xx or no response", "tail"))


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
class TimeSlot:
    """Counts of five seconds; those of durations by `duration_class`."""

    number: int
    outcomes: Counter[str] = field(default_factory=Counter)
    request_times: Counter[int] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    call_times: Counter[int] = field(default_factory=Counter)


class SlidingWindow:
    """The slots of the last ten minutes; empty slots are not stored."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots: deque[TimeSlot] = deque(maxlen=SLOT_COUNT + 1)
        self._slot = TimeSlot(-1)
        self._end = -math.inf

    def __repr__(self) -> str:
        return f"<SlidingWindow: {len(self._slots)} slots>"

    def current(self) -> TimeSlot:
        """The current slot."""
        now = self._clock()
        if now >= self._end:
            self._slot = TimeSlot(int(now // SLOT_SECONDS))
            self._slots.append(self._slot)
            self._end = (self._slot.number + 1) * SLOT_SECONDS
        return self._slot

    def recent(self, count: int) -> tuple[list[TimeSlot], float]:
        """The last `count` slots including the current one, and the seconds that they cover."""
        current = self.current()
        return [*self.whole(count - 1), current], self._clock() - (current.number - count + 1) * SLOT_SECONDS

    def whole(self, count: int = SLOT_COUNT) -> Iterator[TimeSlot]:
        """The last `count` complete slots, oldest first, empty ones included."""
        slots_by_number = {slot.number: slot for slot in self._slots}
        current_number = int(self._clock() // SLOT_SECONDS)
        for number in range(current_number - count, current_number):
            yield slots_by_number.get(number) or TimeSlot(number)


class RecentActivity:
    """Counts of recent work, the last failures, and the last error of each request in flight."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._window = SlidingWindow(monotonic_clock)
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._failures: deque[status.Failure] = deque(maxlen=MAX_FAILURES_KEPT)
        self._errors: dict[str, FaultKind] = {}
        self._open_errors: dict[Key, CallError] = {}

    def __repr__(self) -> str:
        return f"<RecentActivity: {sum(self._outcomes.values())} deliveries, {len(self._failures)} failures>"

    def call_ended(self, label: str, seconds: float) -> None:
        """A DCS call ended: `label` is its HTTP status, or how it ended without an answer."""
        slot = self._window.current()
        slot.calls[_call_kind(label)] += 1
        slot.call_times[duration_class(seconds)] += 1

    def call_failed(self, migration: MigrationRequest, error: CallError) -> None:
        """A call for this request failed."""
        counted = self._errors.get(error.label)
        count = counted.count + 1 if counted else 1
        self._errors[error.label] = FaultKind(
            error.label, error.evidence.value, count, self._clock(), _error_text(error)
        )
        if len(self._open_errors) < _MAX_OPEN_ERRORS:
            self._open_errors[migration.key] = error

    def settled(self, fact: DeliveryFinished) -> None:
        """A delivery was handled."""
        slot = self._window.current()
        slot.outcomes[fact.outcome] += 1
        slot.request_times[duration_class(fact.seconds)] += 1
        self._outcomes[fact.outcome, fact.reason] += 1
        error = self._open_errors.pop(fact.migration.key, None) if self._open_errors and fact.migration else None
        if fact.outcome == "failed":
            self._failures.append(self._failure(fact, error))

    def delivery_returned(self, reason: str) -> None:
        """A delivery was returned to the queue without an outcome."""
        self._window.current().outcomes["returned"] += 1
        self._outcomes["returned", reason] += 1

    def read(self, redact: Callable[[str], str]) -> status.Activity:
        """Everything as plain values; `redact` removes secrets from DCS's texts."""
        slots = list(self._window.whole())
        return status.Activity(
            slot=SLOT_SECONDS,
            figures=_minute_figures(*self._window.recent(SLOTS_PER_MINUTE)),
            charts=_charts(slots),
            outcomes=dict(self._outcomes.most_common()),
            failures=tuple(replace(failure, said=redact(failure.said)) for failure in reversed(self._failures)),
            faults=tuple(
                replace(fault, said=redact(fault.said))
                for fault in sorted(self._errors.values(), key=lambda fault: -fault.at)
            ),
        )

    def _failure(self, fact: DeliveryFinished, error: CallError | None) -> status.Failure:
        migration = fact.migration
        return status.Failure(
            at=self._clock(),
            reason=fact.reason,
            request_id=migration.request_id if migration else None,
            project_id=migration.project_id if migration else None,
            region=migration.region if migration else None,
            attempts=fact.envelope.attempts,
            parked=fact.parked,
            said=": ".join(filter(None, (error.label, _error_text(error)))) if error else "",
        )


@cache
def _call_kind(label: str) -> str:
    if label == "429":
        return "429"
    return {"2": "OK", "4": "4xx"}.get(label[:1] if label.isdecimal() else "", "5xx or no response")


def _error_text(error: CallError) -> str:
    words = error.error_msg or error.message
    return " ".join(filter(None, (error.error_code, words)))[:MAX_ERROR_CHARACTERS]


def _minute_figures(slots: list[TimeSlot], seconds: float) -> dict[str, str]:
    ended = sum(slot.outcomes.total() for slot in slots)
    calls = sum(slot.calls.total() for slot in slots)
    longest = quantile((slot.call_times for slot in slots), 0.95)
    return {
        "finished per second": f"{ended / seconds:.1f}",
        "failed": str(sum(slot.outcomes["failed"] for slot in slots)),
        "calls per second": f"{calls / seconds:.1f}",
        "DCS call latency, p95": NOTHING if longest is None else f"{longest * 1000:,.0f} ms",
    }


def _charts(slots: list[TimeSlot]) -> tuple[Chart, ...]:
    return (
        Chart("Deliveries handled", "per second", _rates(_OUTCOMES, [slot.outcomes for slot in slots]), True),
        Chart("DCS calls", "per second", _rates(_CALLS, [slot.calls for slot in slots]), True),
        Chart("Handling time", "ms", _quantiles([slot.request_times for slot in slots])),
        Chart("DCS call latency", "ms", _quantiles([slot.call_times for slot in slots])),
    )


def _rates(kinds: Iterable[tuple[str, str]], counts: Sequence[Mapping[str, int]]) -> tuple[Series, ...]:
    return tuple(
        Series(name, kind, tuple(count.get(name, 0) / SLOT_SECONDS for count in counts)) for name, kind in kinds
    )


def _quantiles(times: list[Counter[int]]) -> tuple[Series, ...]:
    return tuple(
        Series(name, kind, tuple(None if (at := quantile((slot,), share)) is None else at * 1000 for slot in times))
        for name, kind, share in (("p50", "half", 0.5), ("p95", "tail", 0.95))
    )
