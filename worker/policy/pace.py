"""How fast calls may follow each other under a quota: spread evenly, instead of bursting into refusals.

The rate is set, or learnt from refusals. The service names its whole quota (`limit:100,time:1 second`), but not how
many replicas share it: so each takes back the share of its calls that was refused, then probes upwards gently, in
proportion, and a little for fairness. Who takes more is refused more: all find their share without knowing the others.
"""

from typing import Final

from worker.policy.fault import Throttle
from worker.policy.meter import Meter

_CUT: Final = 0.98
"""What is left at most of the rate after a refusal."""
_CUT_AT_MOST: Final = 0.5
_SOONEST: Final = 1.0
_LATEST: Final = 10.0
"""Seconds between two cuts, else one window: what a cut did is seen that much later."""
_FEW: Final = 3
"""Calls granted that are added to those counted: one refusal among few calls says little."""
_GROWTH: Final = ((10.0, 0.025), (30.0, 0.03), (60.0, 0.05), (300.0, 0.1))
"""Until so many seconds after the last cut the rate grows by this share each second; then it is forgotten."""
_FIRST: Final = 0.1
"""The same from when a rate is learnt to the first cut: one moment says little."""
_FAIR: Final = 0.001
"""Share of the whole quota that it grows by each second, however low it is."""
_USED: Final = 1.2
"""A rate of more than so many times the calls that were made is not what holds them back."""
_GROWN_EVERY: Final = 0.25
_SLACK: Final = 0.05
"""Seconds by which calls that come late may follow each other faster: timers are not exact."""
_SLOWEST: Final = 1 / 60


class Pace:
    """One pace. `rate`: calls per second, None: none is known. Times are seconds of any one clock."""

    def __init__(self, fixed: float | None = None) -> None:
        self.rate = fixed
        self.quota: float | None = None
        """Calls per second that the service named last."""
        self.is_fixed = fixed is not None
        """It is set, and nothing changes it."""
        self._meter = Meter()
        self._next_at = self._held_until = 0.0
        self._refused_at = self._cut_at = self._grown_at = float("-inf")
        self._tried_at: float | None = None
        self._row = self._granted = self._refused = 0
        self._is_new = True

    def __repr__(self) -> str:
        return f"<Pace: {'none' if self.rate is None else f'{self.rate:.2f}/s'}>"

    def wait(self, now: float) -> float:
        """Seconds until the next call may begin; 0: now."""
        return 0.0 if self.rate is None else max(0.0, self._next_at - now, self._held_until - now)

    def holds(self, now: float) -> bool:
        """Whether calls are held back: by a rate that is set, or that the next call would not forget."""
        return self.rate is not None and (self.is_fixed or now - self._cut_at < _GROWTH[-1][0])

    def begin(self, now: float) -> None:
        """A call begins."""
        self._meter.count(now)
        if self.rate is not None and not self.is_fixed and now - self._grown_at > _GROWN_EVERY:
            self._grow(now)
        if self.rate is not None:
            self._tried_at = now if self._tried_at is None else self._tried_at
            self._next_at = max(self._next_at, now - _SLACK) + 1.0 / self.rate

    def granted(self) -> None:
        """A call was not throttled."""
        self._granted += 1

    def refused(self, begun: float, now: float, throttle: Throttle | None, retry_after: float | None) -> bool:
        """A call was throttled. True: the rate was cut, or learnt."""
        self._refused += 1
        if begun < self._refused_at:
            return False  # it was under way when another one was refused
        window = throttle.window if throttle else _SOONEST
        # Refused again and again, calls wait longer and longer: a window that is full stays full for a while.
        self._row = self._row + 1 if begun == self._tried_at else 0
        is_cut = not self.is_fixed and self._learn(now, throttle.calls / window if throttle else None, window)
        assert self.rate is not None
        calls = max(2.0 ** min(self._row, 30), self._refused)
        self._held_until = now + min(max(window, retry_after or 0.0), calls / self.rate)
        self._refused_at, self._tried_at = now, None
        return is_cut

    def _learn(self, now: float, quota: float | None, window: float) -> bool:
        was, self.quota = self.quota, quota or self.quota
        if self.rate is None:
            self._cut(max(1.0, self._meter.per_second(now), (quota or 0.0) / 4), now)
            self._is_new = True
        elif was and self.quota and self.quota < was:
            self._cut(self.rate * self.quota / was, now)
        elif not self._row and now - self._cut_at >= min(max(window, _SOONEST), _LATEST):
            share = self._refused / (self._refused + self._granted + _FEW)
            used = min(self.rate, self._meter.per_second(now) * _USED + 1.0)
            self._cut(max(used * (1.0 - share) * _CUT, self.rate * _CUT_AT_MOST), now)
        else:
            return False
        return True

    def _cut(self, rate: float, now: float) -> None:
        self.rate = max(_SLOWEST, min(rate, self.quota or rate))
        self._cut_at = self._grown_at = now
        self._granted = self._refused = 0
        self._is_new = False

    def _grow(self, now: float) -> None:
        assert self.rate is not None
        seconds, self._grown_at = now - self._grown_at, now
        share = next((share for until, share in _GROWTH if now - self._cut_at < until), None)
        if share is None:
            self.rate = self.quota = None
        elif self.rate <= self._meter.per_second(now) * _USED + 1.0:
            share = _FIRST if self._is_new else share * max(0.3, min(1.0, self.rate / 10))
            self.rate += (self.rate * share + (self.quota or 0.0) * _FAIR) * seconds
