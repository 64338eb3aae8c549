"""How many calls of one region there may be at once: additive increase, multiplicative decrease.

It grows only while it is really used, and shrinks when calls are throttled or time out, and when latency grows with
our own load (https://github.com/Netflix/concurrency-limits, AIMDLimit). A decision is made once a round: about as
many endings as the limit, hence one latency.
"""

from math import inf
from typing import Final

from worker.policy.latency import Latency

START: Final = 8
"""Calls at once of a new worker, doubled every round until something speaks against it; up to it answers count."""
_STEPS: Final = 32
"""Rounds from nothing to the ceiling, later."""
_ROUND: Final = 16
"""Endings of a round at least: single slow answers decide nothing."""
_LESS: Final = 0.75
"""What is left of the limit at least when calls are throttled."""
_SPARE: Final = 1.5
"""Times the calls at once that a pace needs."""


class Limit:
    """One limit between 1 and `ceiling`; `deadline`: seconds of a whole call. Times are seconds of any one clock."""

    def __init__(self, ceiling: int, deadline: float) -> None:
        self.value = min(START, ceiling)
        self._ceiling = float(ceiling)
        self._step = max(1.0, ceiling / _STEPS)
        self._exact = float(self.value)
        self._threshold = float(ceiling)
        self._latency = Latency(deadline)
        self._changed_at = self._shrunk_at = -inf
        self._size, self._count, self._peak, self._seconds = _ROUND, 0, 0, 0.0
        self._before = 0.0
        """Seconds that a call took in the round before."""

    def __repr__(self) -> str:
        return f"<Limit: {self.value}>"

    @property
    def is_lowered(self) -> bool:
        """Whether something spoke against as many calls as are configured, and they are not reached again."""
        return self._threshold < self._ceiling and self._exact < self._ceiling

    def answered(self, begun: float, now: float, in_use: int) -> None:
        """A call that creates was answered, or timed out, as one of `in_use` that were under way."""
        if begun < self._changed_at:
            return
        if self._exact < START and self._exact < self._threshold:
            self._set(self._exact + 1.0)
        self._seconds += now - begun
        self._count += 1
        if in_use > self._peak:  # noqa: PLR1730 - `max` costs four times as much, for every call
            self._peak = in_use
        if self._count >= self._size:
            self._end_round(now)

    def throttled(self, begun: float, now: float, rate: float) -> None:
        """The service refused a call because there are too many; so many a second keep within the quota."""
        if begun >= self._shrunk_at:
            needed = rate * self._lately() * _SPARE
            self._latency.forget()
            self._shrink(self._exact * max(_LESS, min(1.0, needed / self._exact)), now)

    def restart(self, now: float) -> None:
        """The service is back after an outage: begin with one call, and be quick up to half of what there was."""
        half = self._exact / 2
        self._latency.forget()
        self._shrink(1.0, now)
        self._threshold = max(1.0, half)

    def _lately(self) -> float:
        """Seconds that a call takes at present: what is usual, or more."""
        this = self._seconds / self._count if self._count else 0.0
        return max(self._latency.usual or 0.0, self._before, this)

    def _end_round(self, now: float) -> None:
        is_used = self._peak * 2 >= self._exact
        self._before = self._seconds / self._count
        allowed = self._latency.allows(self._before, self._exact, is_used=is_used)
        if allowed < self._exact:
            self._shrink(allowed, now)
        elif allowed < inf:
            self._set(allowed)  # as it is, or as it was
        elif is_used:
            self._grow(now)
        self._begin_round()

    def _grow(self, now: float) -> None:
        if self._exact < self._threshold:
            self._set(min(self._exact * 2, self._threshold))
            self._changed_at = now
        else:
            self._set(self._exact + self._step)

    def _shrink(self, to: float, now: float) -> None:
        self._set(to)
        self._threshold = self._exact
        self._changed_at = self._shrunk_at = now
        self._begin_round()

    def _set(self, exact: float) -> None:
        self._exact = max(1.0, min(exact, self._ceiling))
        self.value = int(self._exact)

    def _begin_round(self) -> None:
        self._size = max(_ROUND, self.value)
        self._count = self._peak = 0
        self._seconds = 0.0
