"""What became of the calls since the rate was changed, and what that says about a quota."""

from typing import Final

from worker.policy.background import Background

_ROW: Final = 5
"""Refusals without a grant between them that tell of a quota which nobody named."""
_FEW: Final = 3
"""Calls granted that are added to those counted: one refusal among few calls says little."""


class Refusals:
    """Counts since the last change. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.granted = self.refused = 0
        self._background = Background()
        self._row = self._granted_before = 0
        self._since = float("-inf")

    def __repr__(self) -> str:
        return f"<Refusals: {self.refused} of {self.calls}, {self._background!r}>"

    @property
    def calls(self) -> int:
        """Calls counted."""
        return self.granted + self.refused

    @property
    def surplus(self) -> float:
        """Refusals that are not there whatever our rate is."""
        return self._background.surplus(self.refused, self.calls)

    @property
    def share(self) -> float:
        """The same as a share of the calls, and a careful one if they are few."""
        return self.surplus / (self.calls + _FEW)

    @property
    def is_background(self) -> bool:
        """Whether all of them are there whatever our rate is."""
        return self._background.share > 0.0 and self.surplus == 0.0

    def is_row(self) -> bool:
        """After another refusal: whether so many came in a row that a quota must be used up, though nobody named it."""
        self._row = self._row + 1 if self.granted == self._granted_before else 1
        self._granted_before = self.granted
        return self._row >= _ROW

    def judge(self, rate: float, quota: float | None) -> float | None:
        """After a while at `rate`: the rate to return to, if cuts turned out to be of no use."""
        return self._background.judge(rate, self.refused, self.calls, quota)

    def changed(self, now: float) -> None:
        """Count anew: the rate is another one."""
        self.granted = self.refused = self._granted_before = 0
        self._since = now

    def calmed(self, now: float) -> None:
        """Count anew: nothing has to be changed."""
        self._background.calmed(self.refused, self.calls, now - self._since)
        self.changed(now)

    def begin(self) -> None:
        """Compare no more with what was before: the quota is another one."""
        self._background.begin()
