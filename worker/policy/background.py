"""Which refusals our own rate has no part in: fewer calls do not make them fewer.

A service that throttles some requests whatever we do, or a quota that others use up, refuses the same share of few
calls as of many. Who met that with ever fewer calls would stand still beside a service that works.
"""

from math import sqrt
from typing import Final

_CALLS: Final = 8
"""Calls at least that tell which share is refused at the usual rate."""
_LESS: Final = 0.6
"""Share of the usual rate that is left at most when it can be told that taking back does not help."""
_FEWEST: Final = (1 / 50, 0.5)
"""The same of a quota that has a name, and calls per second: others who share it take what is given back, so that as
many are refused as before, until each of some fifty replicas has its part."""
_GAP: Final = 4.0
"""Refusals by which the two explanations must differ."""
_DECAY: Final = 0.01
"""Share by which it is forgotten each second."""


class Background:
    """Watches what becomes of refusals as the rate is cut. Rates are calls per second."""

    def __init__(self) -> None:
        self.share = 0.0
        """Of all calls that are refused, however few we make."""
        self.begin()

    def __repr__(self) -> str:
        return f"<Background: {self.share:.0%}>"

    def begin(self) -> None:
        """Compare with what there is from now on."""
        self._calls = self._refused = self._seen = self._of = 0
        self._seconds = self._if_ours = self._if_not = self._peak = 0.0

    def surplus(self, refused: int, calls: int) -> float:
        """Of so many refusals those that the background does not explain."""
        expected = self.share * calls
        return max(0.0, refused - expected - 2.0 * sqrt(expected))

    def calmed(self, refused: int, calls: int, seconds: float) -> None:
        """For some seconds there were no more refusals than it explains: there may be less of it than there was."""
        found = (refused + 2.0 * sqrt(refused) + 1.0) / max(1, calls)
        self.share = min(self.share * max(0.0, 1.0 - _DECAY * seconds), found)

    def judge(self, rate: float, refused: int, calls: int, quota: float | None = None) -> float | None:
        """So it went at `rate` since the last cut; the rate to return to, if cuts turn out to be of no use.

        `quota`: calls per second that the service named.
        """
        self._peak = max(self._peak, rate)
        if self._calls < _CALLS:
            self._calls += calls
            self._refused += refused
            self._seconds += calls / rate
            return None
        share, usual = self._refused / self._calls, self._calls / self._seconds
        self._seen += refused
        self._of += calls
        self._if_ours += calls * max(0.0, 1.0 - (1.0 - share) * usual / rate)
        self._if_not += calls * share
        if self._if_not - self._if_ours < _GAP:
            return None
        least = (self._if_not + self._if_ours) / 2.0 + 1.0
        if not least <= self._seen <= self._if_not + 2.0 * sqrt(self._if_not) + 1.0:
            self.begin()  # cutting helps, or something else has changed as well
            return None
        if rate > (usual * _LESS if quota is None else max(quota * _FEWEST[0], _FEWEST[1])):
            return None
        self.share, peak = self._seen / self._of, self._peak
        self.begin()
        return peak
