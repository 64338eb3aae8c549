"""The last minutes in slots of some seconds: counts and times. A fact costs some additions and leaves no object."""

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

SLOT: Final = 5.0
"""Seconds."""
SLOTS: Final = 120
_SHORTEST: Final = 1e-6


class Times:
    """How long things took, counted in four classes per factor of two: a quantile is off by an eighth at most."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)

    def add(self, seconds: float) -> None:
        """Count one."""
        mantissa, exponent = math.frexp(seconds + _SHORTEST)  # the mantissa is from 4/8 up to 8/8
        self._counts[exponent * 4 + int(mantissa * 8)] += 1

    def quantile(self, share: float) -> float | None:
        """Seconds that this share of them took at most; None if there was nothing."""
        return quantile((self,), share)

    def counts(self) -> dict[int, int]:
        """How many there are in each class."""
        return self._counts


def quantile(times: Iterable[Times], share: float) -> float | None:
    """Seconds that this share of all of them took at most; None if there was nothing."""
    merged: Counter[int] = Counter()
    for one in times:
        merged.update(one.counts())
    left = merged.total() * share
    for place in sorted(merged):
        left -= merged[place]
        if left <= 0:
            return _middle(place)
    return None


def _middle(place: int) -> float:
    """Seconds in the middle of a class."""
    exponent, eighths = divmod(place - 4, 4)
    return math.ldexp((eighths + 4.5) / 8, exponent)


class Slot:
    """What happened within some seconds."""

    __slots__ = ("call_times", "calls", "number", "outcomes", "request_times")

    def __init__(self, number: int) -> None:
        self.number = number
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.request_times = Times()
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.call_times = Times()


class Rolling:
    """The slots of the last minutes; the oldest are forgotten, empty ones are not kept."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._slots: deque[Slot] = deque(maxlen=SLOTS + 1)
        self._slot = Slot(-1)
        self._end = -math.inf

    def __repr__(self) -> str:
        return f"<Rolling: {len(self._slots)} slots>"

    def current(self) -> Slot:
        """The slot of this moment."""
        now = self._now()
        if now >= self._end:
            self._slot = Slot(int(now // SLOT))
            self._slots.append(self._slot)
            self._end = (self._slot.number + 1) * SLOT
        return self._slot

    def recent(self, count: int) -> tuple[list[Slot], float]:
        """The last `count` slots, the one that is not over among them, and how many seconds they are."""
        this = self.current()
        return [*self.whole(count - 1), this], self._now() - (this.number - count + 1) * SLOT

    def whole(self, count: int = SLOTS) -> Iterator[Slot]:
        """The last `count` slots that are over, the oldest first; also those in which nothing happened."""
        known = {slot.number: slot for slot in self._slots}
        this = int(self._now() // SLOT)
        for number in range(this - count, this):
            yield known.get(number) or Slot(number)
