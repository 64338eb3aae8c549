"""Recent work for the status page: counters updated with every fact, put together on request."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from worker.observe.sliding_window import SLOT_SECONDS, DurationHistogram, SlidingWindow, TimeSlot, quantile
from worker.policy import status
from worker.policy.call_result import CallError
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.status import NOTHING, Chart, FaultKind, Series

MAX_FAILURES_KEPT: Final = 20
SLOTS_PER_MINUTE: Final = round(60 / SLOT_SECONDS)
MAX_ERROR_CHARACTERS: Final = 300
"""Longest error text that is kept."""
_MAX_OPEN_ERRORS: Final = 1024
"""Last errors kept of requests that are still in flight."""

_OUTCOMES: Final = (("succeeded", "good"), ("failed", "bad"), ("retried", "busy"), ("returned", "idle"))
_CALLS: Final = (("OK", "good"), ("4xx", "bad"), ("429", "busy"), ("5xx or no response", "tail"))


@dataclass(slots=True)
class _ErrorCount:
    """Failed calls of one label."""

    count: int
    at: float
    error: CallError


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
        self._outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._failures: deque[status.Failure] = deque(maxlen=MAX_FAILURES_KEPT)
        self._errors: dict[str, _ErrorCount] = {}
        self._open_errors: dict[Key, CallError] = {}
        self._call_kinds: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<ActivityLog: {sum(self._outcomes.values())} deliveries, {len(self._failures)} failures>"

    def call_ended(self, label: str, seconds: float) -> None:
        """A DCS call ended: `label` is its HTTP status, or how it ended without an answer."""
        kind = self._call_kinds.get(label) or self._call_kinds.setdefault(label, _call_kind(label))
        slot = self._window.current()
        slot.calls[kind] += 1
        slot.call_times.add(seconds)

    def call_failed(self, migration: MigrationRequest, error: CallError) -> None:
        """A call for this request failed."""
        counted = self._errors.get(error.label)
        self._errors[error.label] = _ErrorCount(counted.count + 1 if counted else 1, self._clock(), error)
        if len(self._open_errors) < _MAX_OPEN_ERRORS:
            self._open_errors[migration.key] = error

    def settled(self, fact: DeliveryFinished) -> None:
        """A delivery was handled."""
        slot = self._window.current()
        slot.outcomes[fact.outcome] += 1
        slot.request_times.add(fact.seconds)
        self._outcomes[fact.outcome, fact.reason] += 1
        error = self._open_errors.pop(fact.migration.key, None) if self._open_errors and fact.migration else None
        if fact.outcome == "failed":
            self._failures.append(self._failure(fact, error))

    def delivery_returned(self, reason: str) -> None:
        """A delivery was returned to the queue without an outcome."""
        slot = self._window.current()
        slot.outcomes["returned"] += 1
        self._outcomes["returned", reason] += 1

    def read(self, redact: Callable[[str], str]) -> status.Activity:
        """Everything as plain values; `redact` removes secrets from DCS's texts."""
        slots = list(self._window.whole())
        return status.Activity(
            slot=SLOT_SECONDS,
            figures=_minute_figures(*self._window.recent(SLOTS_PER_MINUTE)),
            charts=_charts(slots),
            outcomes=dict(sorted(self._outcomes.items(), key=lambda item: -item[1])),
            failures=tuple(replace(failure, said=redact(failure.said)) for failure in reversed(self._failures)),
            faults=tuple(
                FaultKind(
                    label, counted.error.evidence.value, counted.count, counted.at, redact(_error_text(counted.error))
                )
                for label, counted in sorted(self._errors.items(), key=lambda item: -item[1].at)
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


def _call_kind(label: str) -> str:
    if label == "429":
        return "429"
    return {"2": "OK", "4": "4xx"}.get(label[:1] if label.isdecimal() else "", "5xx or no response")


def _error_text(error: CallError) -> str:
    words = error.error_msg or error.message
    return " ".join(filter(None, (error.error_code, words)))[:MAX_ERROR_CHARACTERS]


def _minute_figures(slots: list[TimeSlot], seconds: float) -> dict[str, str]:
    ended = sum(sum(slot.outcomes.values()) for slot in slots)
    calls = sum(sum(slot.calls.values()) for slot in slots)
    longest = quantile((slot.call_times for slot in slots), 0.95)
    return {
        "finished per second": f"{ended / seconds:.1f}",
        "failed": str(sum(slot.outcomes.get("failed", 0) for slot in slots)),
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


def _quantiles(times: list[DurationHistogram]) -> tuple[Series, ...]:
    return tuple(
        Series(name, kind, tuple(None if (at := slot.quantile(share)) is None else at * 1000 for slot in times))
        for name, kind, share in (("p50", "half", 0.5), ("p95", "tail", 0.95))
    )
