"""Concurrency limit of one region: additive increase, multiplicative decrease.

AIMDLimit of Netflix (https://github.com/Netflix/concurrency-limits): +1 per round while at least half is in use, x 0.75
on a 429, a time-out or an answer that takes most of the deadline; below its threshold the slow start of TCP
(RFC 5681, 3.1): +1 per answer. A round is as many answers as the limit.

The prefetch follows it by Little's law (https://en.wikipedia.org/wiki/Little%27s_law): more requests than calls at once
only wait, and another replica could process them.
"""

from math import inf
from typing import Final

START: Final = 8
"""Calls at once of a new worker. Slow answers alone never lower the limit below it: they may have another cause."""
DECREASE: Final = 0.75
LEAST_PREFETCH: Final = 8
PREFETCH_PER_CALL: Final = (2, 3)
"""A request is in hand for longer than its calls take. The second number is for a decrease, so that it comes later."""
SLOW: Final = 0.4
"""Share of the deadline from which an answer counts as overload: the next step would be time-outs."""


class ConcurrencyLimit:
    """One limit between 1 and `ceiling`; `deadline`: seconds of a call. Times are seconds of any one clock."""

    def __init__(self, ceiling: int, deadline: float) -> None:
        self.value = min(START, ceiling)
        self._ceiling = self._threshold = float(ceiling)
        self._slow_seconds = deadline * SLOW
        self._exact, self._decreased_at = float(self.value), -inf
        self._answers = self._most_in_use = 0

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit: {self.value}>"

    def answered(self, began: float, now: float, in_use: int) -> None:
        """A call was answered, as one of `in_use` that were under way."""
        if began < self._decreased_at:
            return
        if now - began > self._slow_seconds:
            self._decrease(now, START)
            return
        self._answers += 1
        if in_use > self._most_in_use:  # noqa: PLR1730 - `max` costs four times as much, on every call
            self._most_in_use = in_use
        is_round = self._answers >= self.value
        if is_round or self._exact < self._threshold:
            self._set(self._exact + (self._most_in_use * 2 >= self.value), is_round=is_round)

    def overloaded(self, began: float, now: float) -> None:
        """A call was throttled or timed out. Calls that began before the last decrease do not count again."""
        if began >= self._decreased_at:
            self._decrease(now, 1)

    def restart(self, now: float) -> None:
        """The service fails: begin with one call, and use the slow start up to half of the former limit."""
        self._threshold = max(1.0, self._exact / 2)
        self._decreased_at = now
        self._set(1.0)

    def _decrease(self, now: float, at_least: int) -> None:
        self._set(min(self._exact, max(float(at_least), self._exact * DECREASE)))
        self._threshold, self._decreased_at = self._exact, now

    def _set(self, exact: float, *, is_round: bool = True) -> None:
        self._exact = max(1.0, min(exact, self._ceiling))
        self.value = int(self._exact)
        if is_round:
            self._answers = self._most_in_use = 0


def fitting_prefetch(present: int, calls_at_once: int, ceiling: int) -> int:
    """The prefetch for a number of calls at once. A power of two, near the present one: a change costs broker calls."""
    least, most = (max(LEAST_PREFETCH, 1 << (calls_at_once * spare - 1).bit_length()) for spare in PREFETCH_PER_CALL)
    return min(ceiling, max(least, min(most, present)))
