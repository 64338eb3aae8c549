"""How fast calls may follow each other under a quota: spread evenly, instead of bursting into refusals.

The rate is set, or learnt from refusals. The service names its whole quota (`limit:100,time:1 second`), but not how
many replicas share it: so each takes back the share of its calls that was refused, then probes upwards gently, in
proportion, and a little for fairness. Who takes more is refused more: all find their share without knowing the others.
A quota that is not named is believed in only when calls are refused in a row, and never to be less than a few a second.
"""

from typing import Final

from worker.policy.call_result import Throttle
from worker.policy.meter import Meter
from worker.policy.refusals import Refusals

_CUT: Final = 0.98
"""What is left at most of the rate after a refusal."""
_CUT_AT_MOST: Final = 0.5
_SOONEST: Final = 1.0
_LATEST: Final = 10.0
"""Seconds between two cuts, else one window: what a cut did is seen that much later."""
_GROWTH: Final = ((10.0, 0.025), (30.0, 0.03), (60.0, 0.05), (300.0, 0.1))
"""Until so many seconds after the last cut the rate grows by this share each second; then it is forgotten."""
_FIRST: Final = 0.1
"""The same from when a rate is learnt to the first cut: one moment says little."""
_FREE: Final = 0.3
"""The same once cuts turned out to be of no use."""
_FAIR: Final = 0.001
"""Share of the whole quota that it grows by each second, however low it is."""
_USED: Final = 1.2
"""A rate of more than so many times the calls that were made is not what holds them back."""
_GROWN_EVERY: Final = 0.25
_SLACK: Final = 0.05
"""Seconds by which calls that come late may follow each other faster: timers are not exact."""
_SLOWEST: Final = 60.0
_UNNAMED: Final = 0.25
"""Seconds between two calls at most, the latter as long as nobody named a quota or a time to wait."""
_LATELY: Final = 60.0
"""Seconds for which a refusal of calls at a set rate says that this rate is too much."""


class Pace:
    """One pace. `rate`: calls per second, None: none is known. Times are seconds of any one clock."""

    def __init__(self, fixed: float | None = None) -> None:
        self.rate = fixed
        self.quota: float | None = None
        """Calls per second that the service named last."""
        self.is_fixed = fixed is not None
        """It is set, and nothing changes it."""
        self._meter = Meter()
        self._refusals = Refusals()
        self._next_at = self._held_until = 0.0
        self._refused_at = self._cut_at = self._grown_at = float("-inf")
        self._tried_at: float | None = None
        self._row = 0
        self._slowest = _UNNAMED
        self._search: float | None = None
        """Share by which the rate grows each second until it is cut, if it is probably too low."""

    def __repr__(self) -> str:
        return f"<Pace: {'none' if self.rate is None else f'{self.rate:.2f}/s'}>"

    def borne(self, now: float) -> float | None:
        """Calls per second that the service bears from this replica; None: no bound was met."""
        if not self.is_fixed:
            return self.rate
        return self._meter.per_second(now) if now - self._refused_at < _LATELY else None

    def made(self, now: float) -> float:
        """Calls that began in the last second."""
        return self._meter.per_second(now)

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
        self._refusals.granted += 1

    def refused(self, begun: float, now: float, throttle: Throttle | None, retry_after: float | None) -> bool:
        """A call was throttled. True: the rate was cut, or learnt."""
        self._refusals.refused += 1
        if begun < self._refused_at:
            return False  # it was under way when another one was refused
        if throttle is not None or retry_after is not None:
            self._slowest = _SLOWEST
        elif not self._refusals.is_row() and self.rate is None:
            return False
        # Refused again and again, calls wait longer and longer: a window that is full stays full for a while.
        self._row = self._row + 1 if begun == self._tried_at else 0
        is_background, surplus = self._refusals.is_background, self._refusals.surplus
        is_cut = not self.is_fixed and self._learn(now, throttle)
        if is_cut or not is_background:
            assert self.rate is not None
            longest = max(throttle.window if throttle else _UNNAMED, retry_after or 0.0)
            calls = max(2.0 ** min(self._row, 30), 0.0 if is_cut else surplus)
            self._held_until = now + min(longest, calls / self.rate)
        self._refused_at, self._tried_at = now, None
        return is_cut

    def _learn(self, now: float, throttle: Throttle | None) -> bool:
        was, quota = self.quota, throttle.calls / throttle.window if throttle else None
        self.quota = quota or was
        window = throttle.window if throttle else _SOONEST
        if self.rate is None:
            self._cut(max(1.0, self._meter.per_second(now), (quota or 0.0) / 4), now)
            self._search = _FIRST
        elif was and self.quota and self.quota < was:
            self._refusals.begin()
            self._cut(self.rate * self.quota / was, now)
        elif not self._row and now - self._cut_at >= min(max(window, _SOONEST), _LATEST):
            return self._take_back(self.rate, now)
        else:
            return False
        return True

    def _take_back(self, rate: float, now: float) -> bool:
        """Cut the share of calls that was refused; unless that is of no use."""
        refusals = self._refusals
        if refusals.is_background:
            refusals.calmed(now)
            return False
        usual = refusals.judge(rate, self.quota)
        if usual is not None:
            self._cut(usual, now)
            self._search = _FREE
        else:
            used = min(rate, self._meter.per_second(now) * _USED + 1.0)
            self._cut(max(used * (1.0 - refusals.share) * _CUT, rate * _CUT_AT_MOST), now)
        return True

    def _cut(self, rate: float, now: float) -> None:
        self.rate = max(1.0 / self._slowest, min(rate, self.quota or rate))
        self._cut_at = self._grown_at = now
        self._search = None
        self._refusals.changed(now)

    def _grow(self, now: float) -> None:
        assert self.rate is not None
        seconds, self._grown_at = now - self._grown_at, now
        share = next((share for until, share in _GROWTH if now - self._cut_at < until), None)
        if share is None:
            self.rate = self.quota = None
            self._slowest = _UNNAMED
        elif self.rate <= self._meter.per_second(now) * _USED + 1.0:
            share = self._search or share * max(0.3, min(1.0, self.rate / 10))
            self.rate += (self.rate * share + (self.quota or 0.0) * _FAIR) * seconds
