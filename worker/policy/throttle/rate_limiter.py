"""Rate limiter of one region, or of one throttled project: a token bucket whose rate is set, or learnt from 429s.

Learnt rates follow the adaptive retry mode of the AWS SDKs
(https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html), CUBIC (RFC 9438): a 429 cuts the rate;
within a period it returns to what it was, stays near it, then grows faster and faster. Time is counted in calls, so
that a rate which is not used does not grow.
"""

from collections import deque
from math import inf
from typing import Final

from worker.policy.call_result import NamedLimit

BETA: Final = 0.8
"""What a 429 leaves of the rate."""
CUT_SECONDS: Final = (1.0, 10.0)
"""Between two cuts: the window that was named, within these bounds. What a cut did is seen that much later."""
PERIOD: Final = (5.0, 10.0)
"""Seconds of a period, and calls in it at least."""
REFUSALS_IN_A_ROW: Final = 5
"""429s that name no limit, without a granted call between them, from which a limit is believed in."""
RECENT_CALLS, REFUSED_CALLS = 50, 10
"""Later so many of the recent calls must be refused: a service may refuse some at any rate."""
LEAST_UNNAMED: Final = 4.0
REPLICAS: Final = 50
"""Replicas among which a limit that the server names may be divided."""
FORGET: Final = (300.0, 20.0)
"""Without a 429 for this time, in seconds and in named windows, no limit is known any more."""
TICK_SECONDS: Final = 0.0005
"""By which a wait is longer than computed: a timer that is early would only compute it again."""
MAX_SPACING_SECONDS: Final = 2.0
MAX_RATE_WAIT_SECONDS: Final = 10.0
"""Expected until its turn that a request may wait for a rate limit in hand."""
BURST: Final = (0.1, 2.0)
"""The bucket holds the calls of so many seconds, and those of a permit (look-up and create) at least."""


class RateLimiter:
    """One limiter. `rate`: calls per second, None while none is known. Times are seconds of any one clock.

    `is_certain`: a limit that the server names is the ceiling; else only what it begins with.
    """

    def __init__(self, fixed: float | None = None, *, is_certain: bool = True) -> None:
        self.rate, self._is_certain = fixed, is_certain
        self.named: float | None = None
        """Calls per second that the server named: the ceiling."""
        self.is_fixed = fixed is not None
        self._tokens, self._filled_at, self._blocked_until = BURST[1], 0.0, 0.0
        self._before_cut, self._cut_at, self._calls_since_cut = 0.0, -inf, 0.0
        self._forget_seconds = FORGET[0]
        self._row, self._refused_at = 0, -inf
        self._recent: deque[int] = deque(maxlen=RECENT_CALLS)
        """1 for each refusal."""
        self._second, self._started, self._started_before = 0.0, 0.0, 0.0

    def __repr__(self) -> str:
        return f"<RateLimiter: {'no limit' if self.rate is None else f'{self.rate:.2f}/s'}>"

    def wait(self, calls: int, now: float) -> float:
        """Seconds until so many calls may begin; 0: now."""
        if self.rate is not None:
            self._refill(now)
        if self.rate is None:
            return max(0.0, self._blocked_until - now)
        missing = min(float(calls), self._capacity()) - self._tokens
        return max(self._blocked_until - now, missing / self.rate + TICK_SECONDS if missing > 0.0 else 0.0)

    def take(self, calls: int, now: float) -> None:
        """So many calls begin; what the bucket does not hold is owed."""
        if now - self._second >= 1.0:
            self._started_before = self._started if now - self._second < 2.0 else 0.0
            self._second, self._started = now, 0.0
        self._started += calls
        self._calls_since_cut += calls
        self._tokens -= calls

    def give_back(self, calls: int, taken_at: float) -> None:
        """So many calls were not made. What was taken before the last cut is gone."""
        if taken_at >= self._cut_at:
            self._started -= calls
            self._calls_since_cut -= calls
            self._tokens += calls

    def spacing(self) -> float:
        """Seconds between look-up and create of one permit: two at once exceed a limit that was learnt to be low."""
        is_low = not self.is_fixed and self.rate is not None and self.rate < BURST[1]
        return min(MAX_SPACING_SECONDS, 1.0 / self.rate) if is_low and self.rate else 0.0

    def granted(self) -> None:
        """A call was not throttled."""
        self._row = 0
        self._recent.append(0)

    def throttled(
        self, began: float, now: float, named: NamedLimit | None, retry_after: float | None, *, is_policy: bool = False
    ) -> bool:
        """A call was throttled. True: it tells of a limit. `is_policy`: its text speaks of one."""
        self._started -= 1
        self._recent.append(1)
        if began >= self._refused_at:  # refusals of calls that were under way together are one
            self._row, self._refused_at = self._row + 1, now
        is_believed = self.rate is not None and sum(self._recent) > REFUSED_CALLS
        is_named = named is not None or retry_after is not None or is_policy
        if began < self._cut_at or not (is_named or is_believed or self._row >= REFUSALS_IN_A_ROW):
            return False
        window = named.window if named is not None else CUT_SECONDS[0]
        if not self.is_fixed and now - self._cut_at >= min(max(CUT_SECONDS[0], window), CUT_SECONDS[1]):
            self._cut(now, named)
        # A window that is full stays full for a while: refused again and again, calls wait longer and longer.
        wait = min(window, 2.0 ** min(self._row, 30) / (self.rate or 1.0))
        self._blocked_until = max(self._blocked_until, now + (wait if retry_after is None else retry_after))
        return True

    def is_limiting(self, now: float) -> bool:
        """Whether calls are limited: by a fixed rate, or by a 429 not long ago."""
        return self.is_fixed or (self.rate is not None and now - self._cut_at < self._forget_seconds)

    def _cut(self, now: float, named: NamedLimit | None) -> None:
        if named is not None and (self._is_certain or self.rate is None):
            self.named = named.calls / named.window
            self._forget_seconds = max(FORGET[0], FORGET[1] * named.window)
        self._tokens = min(0.0, self._tokens) if self.rate is not None else 0.0
        # Not throttled in the last second: those of the last full one weighed by what is left of it.
        started = self._started + self._started_before * max(0.0, 1.0 - (now - self._second))
        known, least = self.rate or self.named or started, self.named / REPLICAS if self.named else LEAST_UNNAMED
        refused = sum(self._recent) / len(self._recent) if len(self._recent) > REFUSED_CALLS else 0.0
        self._before_cut = max(least / BETA, min(known, self._ceiling()) * (1.0 - refused))
        self.rate = self._before_cut * BETA
        self._calls_since_cut, self._cut_at, self._filled_at = 0.0, now, now
        self._recent.clear()

    def _refill(self, now: float) -> None:
        if not self.is_limiting(now):
            self.rate = self.named = None
        elif not self.is_fixed:
            periods = self._calls_since_cut / max(PERIOD[1], PERIOD[0] * self._before_cut)
            self.rate = self._before_cut * (1.0 + (1.0 - BETA) * (periods - 1.0) ** 3)
            self.rate = min(self.rate, self._ceiling())
        self._tokens = min(self._capacity(), self._tokens + (now - self._filled_at) * (self.rate or 0.0))
        self._filled_at = now

    def _ceiling(self) -> float:
        return self.named if self.named is not None and self._is_certain else inf

    def _capacity(self) -> float:
        return max(BURST[1], (self.rate or 0.0) * BURST[0])
