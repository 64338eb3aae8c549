"""What the status page shows of the work: counted as it is told, put together when it is asked for."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from worker.observe.rolling import SLOT, Rolling, Slot, Times, quantile
from worker.policy import status
from worker.policy.facts import Settled
from worker.policy.fault import Fault
from worker.policy.order import Key, Order
from worker.policy.status import NOTHING, Chart, FaultKind, Series

FAILURES: Final = 20
MINUTE: Final = round(60 / SLOT)
LONGEST: Final = 300
"""Characters of what the service said."""
_STRAY: Final = 1024
"""Faults kept at most of requests that are not over."""

_OUTCOMES: Final = (("succeeded", "good"), ("failed", "bad"), ("retried", "busy"), ("returned", "idle"))
_CALLS: Final = (("answered", "good"), ("refused", "bad"), ("throttled", "busy"), ("5xx or no answer", "tail"))


@dataclass(slots=True)
class _Seen:
    """Faults of one label."""

    count: int
    at: float
    fault: Fault


class ActivityLog:
    """Is told facts by the observer. Keeps counts, the last failures, and the last fault of what is in hand."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._rolling = Rolling(now)
        self._outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._failures: deque[status.Failure] = deque(maxlen=FAILURES)
        self._faults: dict[str, _Seen] = {}
        self._last: dict[Key, Fault] = {}
        self._kinds: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<ActivityLog: {sum(self._outcomes.values())} deliveries, {len(self._failures)} failures>"

    def call_ended(self, label: str, seconds: float) -> None:
        """A call of the service ended: `label` is its status, or how it went without an answer."""
        kind = self._kinds.get(label) or self._kinds.setdefault(label, _kind(label))
        slot = self._rolling.current()
        slot.calls[kind] += 1
        slot.call_times.add(seconds)

    def faulted(self, order: Order, fault: Fault) -> None:
        """A call for this order did not succeed."""
        seen = self._faults.get(fault.label)
        self._faults[fault.label] = _Seen(seen.count + 1 if seen else 1, self._clock(), fault)
        if len(self._last) < _STRAY:
            self._last[order.key] = fault

    def settled(self, fact: Settled) -> None:
        """A delivery is over."""
        slot = self._rolling.current()
        slot.outcomes[fact.outcome] += 1
        slot.request_times.add(fact.seconds)
        self._outcomes[fact.outcome, fact.reason] += 1
        fault = self._last.pop(fact.order.key, None) if self._last and fact.order else None
        if fact.outcome == "failed":
            self._failures.append(self._failure(fact, fault))

    def returned(self, reason: str) -> None:
        """A delivery went back to the queue without having been settled."""
        slot = self._rolling.current()
        slot.outcomes["returned"] += 1
        self._outcomes["returned", reason] += 1

    def read(self, clean: Callable[[str], str]) -> status.Activity:
        """All of it, as plain values; `clean` takes secrets out of what the service said."""
        slots = list(self._rolling.whole())
        return status.Activity(
            slot=SLOT,
            figures=_figures(*self._rolling.recent(MINUTE)),
            charts=_charts(slots),
            outcomes=dict(sorted(self._outcomes.items(), key=lambda item: -item[1])),
            failures=tuple(replace(one, said=clean(one.said)) for one in reversed(self._failures)),
            faults=tuple(
                FaultKind(label, seen.fault.evidence.value, seen.count, seen.at, clean(_said(seen.fault)))
                for label, seen in sorted(self._faults.items(), key=lambda item: -item[1].at)
            ),
        )

    def _failure(self, fact: Settled, fault: Fault | None) -> status.Failure:
        order = fact.order
        return status.Failure(
            at=self._clock(),
            reason=fact.reason,
            request_id=order.request_id if order else None,
            project_id=order.project_id if order else None,
            region=order.region if order else None,
            attempts=fact.envelope.attempts,
            parked=fact.parked,
            said=": ".join(filter(None, (fault.label, _said(fault)))) if fault else "",
        )


def _kind(label: str) -> str:
    if label == "429":
        return "throttled"
    return {"2": "answered", "4": "refused"}.get(label[:1] if label.isdecimal() else "", "5xx or no answer")


def _said(fault: Fault) -> str:
    words = fault.error_msg or fault.message
    return " ".join(filter(None, (fault.error_code, words)))[:LONGEST]


def _figures(minute: list[Slot], seconds: float) -> dict[str, str]:
    ended = sum(sum(slot.outcomes.values()) for slot in minute)
    calls = sum(sum(slot.calls.values()) for slot in minute)
    longest = quantile((slot.call_times for slot in minute), 0.95)
    return {
        "ended per second": f"{ended / seconds:.1f}",
        "failed": str(sum(slot.outcomes.get("failed", 0) for slot in minute)),
        "calls per second": f"{calls / seconds:.1f}",
        "95% of calls within": NOTHING if longest is None else f"{longest * 1000:,.0f} ms",
    }


def _charts(slots: list[Slot]) -> tuple[Chart, ...]:
    return (
        Chart("Deliveries that ended", "per second", _rates(_OUTCOMES, [slot.outcomes for slot in slots]), True),
        Chart("Calls of the service", "per second", _rates(_CALLS, [slot.calls for slot in slots]), True),
        Chart("Time in hand", "ms", _quantiles([slot.request_times for slot in slots])),
        Chart("Time of a call", "ms", _quantiles([slot.call_times for slot in slots])),
    )


def _rates(kinds: Iterable[tuple[str, str]], counts: Sequence[Mapping[str, int]]) -> tuple[Series, ...]:
    return tuple(Series(name, kind, tuple(count.get(name, 0) / SLOT for count in counts)) for name, kind in kinds)


def _quantiles(times: list[Times]) -> tuple[Series, ...]:
    return tuple(
        Series(name, kind, tuple(None if (at := one.quantile(share)) is None else at * 1000 for one in times))
        for name, kind, share in (("half within", "half", 0.5), ("95% within", "tail", 0.95))
    )
