"""Which delay of the retry schedule fits a request that steps aside, so that no crowd comes back at once."""

from collections.abc import Sequence
from math import inf
from typing import Final

RETURNING: Final = 10.0
"""Requests per second that may come back while it is not a rate that holds them."""


class Places:
    """Each place takes what can be used up until those of the next one come back; the last takes the rest."""

    def __init__(self, delays: Sequence[float]) -> None:
        self._delays = delays
        self._since = [-inf] * len(delays)
        self._taken = [0] * len(delays)

    def __repr__(self) -> str:
        return f"<Places: {self._taken}>"

    def choose(self, rate: float, at_least: float, now: float) -> float:
        """The delay for one more request of those that may make `rate` calls per second. `now`: of any one clock."""
        for n, delay in enumerate(self._delays[:-1]):
            if now - self._since[n] > delay:
                self._since[n], self._taken[n] = now, 0
            if delay >= at_least and self._taken[n] < rate * self._delays[n + 1]:
                self._taken[n] += 1
                return delay
        return self._delays[-1]
