"""Recent work for the status page: counters updated with every fact, put together on request.

A sliding window has the last minute in slots of five seconds. An observation costs a few additions.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from worker.policy import status
from worker.policy.call_result import CallError
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.status import NOTHING, FaultKind

SLOT_SECONDS: Final = 5.0
SLOT_COUNT: Final = 12
MAX_FAILURES_KEPT: Final = 20
MAX_ERROR_CHARACTERS: Final = 300
"""Longest error text that is kept."""
_MIN_SECONDS: Final = 1e-6
_MAX_OPEN_ERRORS: Final = 1024
"""Last errors kept of requests that are still in flight."""


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
    """Counts of five seconds; those of calls by the `duration_class` of each."""

    number: int
    ended: int = 0
    failed: int = 0
    call_times: Counter[int] = field(default_factory=Counter)


class SlidingWindow:
    """The slots of the last minute; empty slots are not stored."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots = deque([TimeSlot(-1)], maxlen=SLOT_COUNT)

    def current(self) -> TimeSlot:
        """The current slot."""
        number = int(self._clock() // SLOT_SECONDS)
        if number != self._slots[-1].number:
            self._slots.append(TimeSlot(number))
        return self._slots[-1]

    def figures(self) -> dict[str, str]:
        """Rates, failures and latency by name, the current slot included."""
        oldest = self.current().number - SLOT_COUNT + 1
        slots = [slot for slot in self._slots if slot.number >= oldest]
        seconds = self._clock() - oldest * SLOT_SECONDS
        longest = quantile((slot.call_times for slot in slots), 0.95)
        return {
            "finished per second": f"{sum(slot.ended for slot in slots) / seconds:.1f}",
            "failed": str(sum(slot.failed for slot in slots)),
            "calls per second": f"{sum(slot.call_times.total() for slot in slots) / seconds:.1f}",
            "DCS call latency, p95": NOTHING if longest is None else f"{longest * 1000:,.0f} ms",
        }


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

    def call_ended(self, seconds: float) -> None:
        """A DCS call ended."""
        self._window.current().call_times[duration_class(seconds)] += 1

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
        self._window.current().ended += 1
        self._outcomes[fact.outcome, fact.reason] += 1
        error = self._open_errors.pop(fact.migration.key, None) if self._open_errors and fact.migration else None
        if fact.outcome == "failed":
            self._window.current().failed += 1
            self._failures.append(self._failure(fact, error))

    def delivery_returned(self, reason: str) -> None:
        """A delivery was returned to the queue without an outcome."""
        self._window.current().ended += 1
        self._outcomes["returned", reason] += 1

    def read(self, redact: Callable[[str], str]) -> status.Activity:
        """Everything as plain values; `redact` removes secrets from DCS's texts."""
        return status.Activity(
            figures=self._window.figures(),
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


def _error_text(error: CallError) -> str:
    words = error.error_msg or error.message
    return " ".join(filter(None, (error.error_code, words)))[:MAX_ERROR_CHARACTERS]
