"""How many calls of one region there may be at once: additive increase, multiplicative decrease.

It grows only while it is really used, and shrinks when calls are throttled or time out, and when latency grows with
our own load (https://github.com/Netflix/concurrency-limits, AIMDLimit). A decision is made once a round: about as
many endings as the limit, hence one latency. Whether slow answers are our own doing is tried out: if taking back half
of the calls makes them no faster, the service has become slower for everybody, and that is usual from now on.
"""

from typing import Final, NamedTuple

START: Final = 8
"""Calls at once of a new worker, doubled every round until something speaks against it; up to it answers count."""
_ROUND: Final = 16
"""Endings of a round at least: single slow answers decide nothing."""
_SLOW: Final = 2.0
"""Times the usual latency from which a round is slow; two in a row are no accident."""
_NEAR: Final = 0.25
"""Share of the deadline from which a round is slow in any case; twice that is not tried out: time-outs hide more."""
_LESS_SLOW: Final = 0.5
_LESS: Final = 0.75
"""What is left of the limit when calls are slow, and at least when they are throttled."""
_HARDLY: Final = 0.9
"""What the latency must fall to with half the calls; else it is not our load. Of four replicas each has an eighth."""
_STEPS: Final = 3
_SPARE: Final = 1.5
"""Times the calls at once that a pace needs at the usual latency."""


class _Trial(NamedTuple):
    """The latency and the limit before calls were taken back, and how often they were."""

    latency: float
    limit: float
    step: int = 0


class Limit:
    """One limit between 1 and `ceiling`; `deadline`: seconds of a whole call. Times are seconds of any one clock."""

    def __init__(self, ceiling: int, deadline: float, start: int = START) -> None:
        self.value = min(start, ceiling)
        self._ceiling = float(ceiling)
        self._step = max(1.0, ceiling / 32)
        self._near = deadline * _NEAR
        self._exact = float(self.value)
        self._threshold = float(ceiling)
        self._changed_at = self._shrunk_at = float("-inf")
        self._usual: float | None = None
        self._slow: float | None = None
        self._tried: _Trial | None = None
        self._size, self._count, self._peak, self._seconds = _ROUND, 0, 0, 0.0

    def __repr__(self) -> str:
        return f"<Limit: {self.value}>"

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
            needed = rate * (self._usual or 0.0) * _SPARE
            self._shrink(max(_LESS, min(1.0, needed / self._exact)), now)

    def restart(self, now: float) -> None:
        """The service is back after an outage: begin with one call, and be quick up to half of what there was."""
        half = self._exact / 2
        self._shrink(0.0, now)
        self._threshold = max(1.0, half)

    def _end_round(self, now: float) -> None:
        latency, is_used = self._seconds / self._count, self._peak * 2 >= self._exact
        tried, self._tried = self._tried, None
        slow, self._slow = self._slow, None
        if tried is not None and latency > tried.latency * _HARDLY:
            self._go_on_trying(tried, latency, now)
        elif self._is_slow(latency) and is_used and self._exact > 1.0:
            if slow is not None:
                self._go_on_trying(_Trial((slow + latency) / 2, self._exact), latency, now)
            self._slow = latency
        elif is_used:
            self._grow(now)
        self._begin_round()

    def _go_on_trying(self, trial: "_Trial", latency: float, now: float) -> None:
        """Take half of the calls back, up to three times; if that makes none faster, it was not our load."""
        if self._exact > 1.0 and (trial.step < _STEPS or latency > self._near * 2):
            self._shrink(_LESS_SLOW, now)
            self._tried = _Trial(trial.latency, trial.limit, trial.step + 1)
        else:
            self._usual = latency
            self._set(trial.limit)

    def _is_slow(self, latency: float) -> bool:
        if self._usual is None:
            self._usual = latency
        elif latency < self._usual:
            self._usual += (latency - self._usual) / 4
        return latency > min(self._usual * _SLOW, max(self._near, self._usual * 1.5))

    def _grow(self, now: float) -> None:
        if self._exact < self._threshold:
            self._set(min(self._exact * 2, self._threshold))
            self._changed_at = now
        else:
            self._set(self._exact + self._step)

    def _shrink(self, to: float, now: float) -> None:
        self._set(max(1.0, self._exact * to))
        self._threshold = self._exact
        self._changed_at = self._shrunk_at = now
        self._slow = self._tried = None
        self._begin_round()

    def _set(self, exact: float) -> None:
        self._exact = min(exact, self._ceiling)
        self.value = int(self._exact)

    def _begin_round(self) -> None:
        self._size = max(_ROUND, self.value)
        self._count = self._peak = 0
        self._seconds = 0.0
