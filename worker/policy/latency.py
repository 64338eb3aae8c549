"""Whether answers are slow because of our own load.

That is tried out: if taking back half of the calls makes them no faster, the service has become slower for everybody,
and that is usual from now on.
"""

from math import inf
from typing import Final, NamedTuple

_SLOW: Final = 2.0
"""Times the usual latency from which a round is slow; two in a row are no accident."""
_SLOW_NEAR: Final = 1.5
"""The same near the deadline."""
_NEAR: Final = 0.25
_AT: Final = 0.5
"""Shares of the deadline: near it, and at it, where time-outs hide how slow answers are."""
_HALF: Final = 0.5
_HARDLY: Final = 0.9
"""What half the calls must make of the latency; of our load, each of four replicas that share it has an eighth."""
_STEPS_NEAR: Final = 3
"""Times that calls are halved near the deadline before it counts as not our load."""


class _Trial(NamedTuple):
    """The latency and the limit before calls were taken back, and how often they were."""

    latency: float
    limit: float
    step: int = 0


class Latency:
    """Judges rounds of answers. `deadline`: seconds of a whole call."""

    def __init__(self, deadline: float) -> None:
        self.usual: float | None = None
        self._deadline = deadline
        self._slow: float | None = None
        self._trial: _Trial | None = None

    def __repr__(self) -> str:
        return f"<Latency: {'unknown' if self.usual is None else f'{self.usual:.3f} s'}>"

    def forget(self) -> None:
        """The limit changed for another reason: what was being tried out is void."""
        self._slow = self._trial = None

    def allows(self, seconds: float, limit: float, *, is_used: bool) -> float:
        """The limit after a round that took `seconds` on average under `limit`; infinite: it may grow."""
        trial, self._trial = self._trial, None
        slow, self._slow = self._slow, None
        if trial is not None and seconds > trial.latency * _HARDLY:
            return self._tried(trial, seconds, limit)
        if not self._is_slow(seconds) or not is_used or limit <= 1.0:
            return inf
        if slow is None:
            self._slow = seconds
            return limit
        return self._tried(_Trial((slow + seconds) / 2, limit), seconds, limit)

    def _tried(self, trial: _Trial, seconds: float, limit: float) -> float:
        is_hidden = seconds >= self._deadline * _AT
        steps = _STEPS_NEAR if seconds > self._deadline * _NEAR else 1
        if is_hidden or (limit > 1.0 and trial.step < steps):
            self._trial = _Trial(trial.latency, trial.limit, trial.step + 1)
            return max(1.0, limit * _HALF)
        self.usual = seconds
        return trial.limit

    def _is_slow(self, seconds: float) -> bool:
        """Compare with what is usual, and learn what is: the best that was seen, but for noise."""
        if self.usual is None:
            self.usual = seconds
        elif seconds < self.usual:
            self.usual += (seconds - self.usual) / 4
        return seconds > min(self.usual * _SLOW, max(self._deadline * _NEAR, self.usual * _SLOW_NEAR))
