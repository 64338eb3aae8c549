"""The last minutes in slots of some seconds: counts and times. A fact costs some additions and leaves no object."""

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

SLOT_SECONDS: Final = 5.0
"""Seconds."""
SLOT_COUNT: Final = 120
_MIN_SECONDS: Final = 1e-6


class DurationHistogram:
    """How long things took, counted in four classes per factor of two: a quantile is off by an eighth at most."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)

    def add(self, seconds: float) -> None:
        """Count one."""
        mantissa, exponent = math.frexp(seconds + _MIN_SECONDS)  # the mantissa is from 4/8 up to 8/8
        self._counts[exponent * 4 + int(mantissa * 8)] += 1

    def quantile(self, share: float) -> float | None:
        """Seconds that this share of them took at most; None if there was nothing."""
        return quantile((self,), share)

    def counts(self) -> dict[int, int]:
        """How many there are in each class."""
        return self._counts


def quantile(times: Iterable[DurationHistogram], share: float) -> float | None:
    """Seconds that this share of all of them took at most; None if there was nothing."""
    merged: Counter[int] = Counter()
    for one in times:
        merged.update(one.counts())
    remaining = merged.total() * share
    for class_number in sorted(merged):
        remaining -= merged[class_number]
        if remaining <= 0:
            return _middle(class_number)
    return None


def _middle(class_number: int) -> float:
    """Seconds in the middle of a class."""
    exponent, eighths = divmod(class_number - 4, 4)
    return math.ldexp((eighths + 4.5) / 8, exponent)


class TimeSlot:
    """What happened within some seconds."""

    __slots__ = ("call_times", "calls", "number", "outcomes", "request_times")

    def __init__(self, number: int) -> None:
        self.number = number
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.request_times = DurationHistogram()
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.call_times = DurationHistogram()


class SlidingWindow:
    """The slots of the last minutes; the oldest are forgotten, empty ones are not kept."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._slots: deque[TimeSlot] = deque(maxlen=SLOT_COUNT + 1)
        self._slot = TimeSlot(-1)
        self._end = -math.inf

    def __repr__(self) -> str:
        return f"<Rolling: {len(self._slots)} slots>"

    def current(self) -> TimeSlot:
        """The slot of this moment."""
        now = self._now()
        if now >= self._end:
            self._slot = TimeSlot(int(now // SLOT_SECONDS))
            self._slots.append(self._slot)
            self._end = (self._slot.number + 1) * SLOT_SECONDS
        return self._slot

    def recent(self, count: int) -> tuple[list[TimeSlot], float]:
        """The last `count` slots, the one that is not over among them, and how many seconds they are."""
        current_number = self.current()
        return [*self.whole(count - 1), current_number], self._now() - (
            current_number.number - count + 1
        ) * SLOT_SECONDS

    def whole(self, count: int = SLOT_COUNT) -> Iterator[TimeSlot]:
        """The last `count` slots that are over, the oldest first; also those in which nothing happened."""
        slots_by_number = {slot.number: slot for slot in self._slots}
        current_number = int(self._now() // SLOT_SECONDS)
        for number in range(current_number - count, current_number):
            yield slots_by_number.get(number) or TimeSlot(number)
