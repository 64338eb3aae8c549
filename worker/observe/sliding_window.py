"""Sliding window of the last ten minutes in slots of five seconds: counts and durations.

An observation costs a few additions and creates no object.
"""

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

SLOT_SECONDS: Final = 5.0
SLOT_COUNT: Final = 120
_MIN_SECONDS: Final = 1e-6


class DurationHistogram:
    """Durations counted in four classes per factor of two: a quantile is off by an eighth at most."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        mantissa, exponent = math.frexp(seconds + _MIN_SECONDS)  # the mantissa is from 4/8 up to 8/8
        self._counts[exponent * 4 + int(mantissa * 8)] += 1

    def quantile(self, share: float) -> float | None:
        """The duration below which this share of them lies; None if there were none."""
        return quantile((self,), share)

    def counts(self) -> dict[int, int]:
        """Number of durations by class."""
        return self._counts


def quantile(times: Iterable[DurationHistogram], share: float) -> float | None:
    """The duration below which this share of all of them lies; None if there were none."""
    merged: Counter[int] = Counter()
    for histogram in times:
        merged.update(histogram.counts())
    remaining = merged.total() * share
    for class_number in sorted(merged):
        remaining -= merged[class_number]
        if remaining <= 0:
            return _middle(class_number)
    return None


def _middle(class_number: int) -> float:
    """The duration in the middle of a class."""
    exponent, eighths = divmod(class_number - 4, 4)
    return math.ldexp((eighths + 4.5) / 8, exponent)


class TimeSlot:
    """Counts and durations of five seconds."""

    __slots__ = ("call_times", "calls", "number", "outcomes", "request_times")

    def __init__(self, number: int) -> None:
        self.number = number
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.request_times = DurationHistogram()
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.call_times = DurationHistogram()


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
