"""Hold of one project that is throttled, refused or full, so that all other projects flow on.

A bulkhead (https://learn.microsoft.com/azure/architecture/patterns/bulkhead): while held, one request at a time goes
through as a probe, and the others are postponed at no cost. A throttled project has a rate limiter as well, until no
429 came for some minutes. Whether `policy user` counts a project's calls or its account's is not documented: projects
that are throttled in the same window share a limiter, which may grow beyond the limit that was named for one of them.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from worker.policy.backoff import RETURN_RATE, RetrySpread
from worker.policy.call_result import NamedLimit
from worker.policy.throttle.hold import PROJECT_TIMES, Hold, ProbeTimes
from worker.policy.throttle.rate_limiter import CUT_SECONDS, MAX_RATE_WAIT_SECONDS, RateLimiter

THROTTLED, CREDENTIALS, QUOTA = REASONS = ("throttled", "credentials", "quota")
"""It calls too often, it is refused to the credentials, it has all that it may have."""
DIFFERENT_REQUESTS: Final = 3
"""Refused in a row to the credentials: a single request may be refused for what it names."""
SHARE: Final = 4
RECENT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 15.0
"""Requests of a throttled project wait in a quarter of the prefetch if requests of others came lately, and at the
beginning of each minute, when others may be found behind them in the queue; else in all of it."""


@dataclass(slots=True, eq=False)
class SharedLimit:
    """What the throttled projects of one region share."""

    limiter: RateLimiter = field(default_factory=lambda: RateLimiter(is_certain=False))
    _last: "ProjectHold | None" = None
    """The project that was throttled last, and when."""
    _throttled_at: float = -inf

    def throttled(self, project: "ProjectHold", began: float, now: float, named: NamedLimit | None) -> None:
        """A call was throttled for a project: for all of them, if it was another one's turn in the same window."""
        window = min(CUT_SECONDS[1], named.window) if named is not None else CUT_SECONDS[0]
        if self._last not in (None, project) and now - self._throttled_at <= window:
            self.limiter.throttled(began, now, named, None, is_policy=True)
        self._last, self._throttled_at = project, now


class ProjectHold:
    """One project. Times are seconds of any one clock; `random_unit` is uniform in [0, 1)."""

    def __init__(self, delays: Sequence[float], shared: SharedLimit) -> None:
        self.reason = ""
        """Why it is held; empty while it is not."""
        self.message = ""
        """The last refusal."""
        self.until = 0.0
        """Before which no probe is let through."""
        self.limiter, self._shared = RateLimiter(), shared
        self.own: Hold | None = None
        """Of credentials or endpoint for this project alone, once those were found good for others."""
        self._is_probe_out = False
        self._probes = ProbeTimes(*PROJECT_TIMES)
        self._refused: set[Hashable] = set()
        self._spread = RetrySpread(delays)
        self._throttled_since = 0.0

    def why(self, now: float) -> str:
        """The reason that keeps its requests back; empty if none does."""
        if self.own is not None and self.own.is_blocking:
            return CREDENTIALS
        return self.reason or (THROTTLED if self.limiter.is_limiting(now) else "")

    def wait(self, calls: int, now: float) -> float:
        """Seconds until a permit may be given out for the project; infinite: a result must come first."""
        if self._is_probe_out or (self.own is not None and self.own.is_blocking):
            return inf
        waits = [limiter.wait(calls, now) for limiter in self.limiters]
        return max(self.until - now if self.reason else 0.0, *waits)

    @property
    def limiters(self) -> tuple[RateLimiter, ...]:
        """Those that its calls are taken from."""
        return (self.limiter,) if self.limiter.rate is None else (self.limiter, self._shared.limiter)

    def postpone(self, waiting: int, prefetch: int, others_at: float, now: float) -> tuple[float, str] | None:
        """For how long and why a further request is postponed; None: it may wait in hand, behind `waiting` others.

        `others_at`: when a request of a project that is in no trouble came last.
        """
        reason, rate = self.why(now), self.limiter.named or self.limiter.rate or RETURN_RATE
        if reason in ("", THROTTLED):
            is_looking = (now - self._throttled_since) % 60.0 < LOOK_SECONDS
            room = prefetch if now - others_at > RECENT_SECONDS and not is_looking else max(1, prefetch // SHARE)
            slowest = min(limiter.rate or inf for limiter in self.limiters)
            expected = max(limiter.wait(2, now) for limiter in self.limiters) + waiting / slowest
            may_wait = waiting < room and expected <= MAX_RATE_WAIT_SECONDS
            return None if may_wait else (self._spread.choose(rate / 2, 0.0, now), THROTTLED)
        own = self.own if self.own is not None and self.own.is_blocking else None
        wait = own.probes.at - now if own is not None else self.until - now
        if own.is_probing if own is not None else wait <= 0.0 and not waiting and not self._is_probe_out:
            return None
        return self._spread.choose(RETURN_RATE, wait, now), reason

    def begin(self) -> bool:
        """A permit is granted. True: it is the probe."""
        is_probe = bool(self.reason)
        self._is_probe_out = self._is_probe_out or is_probe
        return is_probe

    def end_probe(self) -> None:
        """The permit that is the probe is given back."""
        self._is_probe_out = False

    def throttled(self, began: float, now: float, named: NamedLimit | None, retry_after: float | None) -> bool:
        """A call was throttled for its project. True: it tells of a limit."""
        if not self.limiter.is_limiting(now):
            self._throttled_since = now
        self._shared.throttled(self, began, now, named)
        is_evident = self.limiter.throttled(began, now, named, retry_after, is_policy=True)
        if is_evident:
            self.reason = self.reason or THROTTLED
            self.until = max(self.until, now + self.limiter.wait(2, now))
        return is_evident

    def refused(self, reason: str, request: Hashable, now: float, random_unit: float) -> bool:
        """A call was refused for its project. True: the project is held for another reason from now on."""
        if self.reason in ("", THROTTLED):
            self._refused.add(request)
            if reason == CREDENTIALS and len(self._refused) < DIFFERENT_REQUESTS:
                return False
        is_new, self.reason = self.reason != reason, reason
        if is_new or self.until <= now:
            self._probes.schedule(now, random_unit)
            self.until = self._probes.at
        return is_new

    def accepted(self, *, is_created: bool, is_judged: bool) -> bool:
        """A call was not refused. True: this ended a hold other than a throttle.

        What judges a request has let its project in; whether there is room in it shows at a created task only.
        """
        for limiter in self.limiters:
            limiter.granted()
        if self.own is not None and not self.own.is_blocking:
            self.own = None
        if self.reason != THROTTLED and not is_created and not (is_judged and self.reason == CREDENTIALS):
            return False
        was_held = self.reason not in ("", THROTTLED)
        self.reason, self.until = "", 0.0
        self._refused.clear()
        self._probes.reset()
        return was_held

    def is_idle(self, now: float) -> bool:
        """Whether there is nothing left to remember."""
        return not (self.reason or self._refused or self.own or self.limiter.is_limiting(now))
