"""What a replica takes in: nothing while all that it could ask is sick, else no more requests than it can work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

LATELY: Final = 600.0
"""Seconds for which a region counts as used after a request for it came."""
_SIFT: Final = 30.0
_SIFT_EVERY: Final = 300.0
"""Seconds for which the queue is looked through for requests of other regions, and from one look to the next."""
_SPARE: Final = 1.5
"""Times the limit that is taken in: a request is in hand longer than its call takes."""
_MORE: Final = 4
"""And so many, lest a low limit waits for deliveries."""
_PERSISTENT: Final = 5.0
"""Seconds for which too much must be in hand before less is taken in: changing it is not free."""


@dataclass(frozen=True, slots=True)
class Region:
    """How one region fares."""

    limit: int
    waiting: int
    in_use: int
    probe_in: float | None
    """Seconds until the next probe of an open breaker; None: it is closed."""
    idle: float
    """Seconds since a request for it came."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be taken in from now on."""

    is_paused: bool
    prefetch: int
    again_in: float = inf
    """Seconds after which it may be another wish, though nothing happened."""


class Intake:
    """Keeps what was wished last: `prefetch` is at most `ceiling`."""

    def __init__(self, ceiling: int) -> None:
        self.prefetch = ceiling
        self._ceiling = ceiling
        self._low_since: float | None = None
        self._sifted_at = -inf

    def __repr__(self) -> str:
        return f"<Intake: {self.prefetch}>"

    def wish(self, regions: Sequence[Region], now: float) -> Wish:
        """Law 8: an outage pauses consumption rather than burning through schedules."""
        used = [region for region in regions if region.idle < LATELY] or regions
        probes = [region.probe_in for region in used if region.probe_in is not None]
        if len(probes) < len(used):
            return self._fit(used, now)
        if len(used) < len(regions) and (rest := self._sift(now)) > 0:
            return Wish(False, self.prefetch, rest)
        return self._pause(used, probes, now)

    def _sift(self, now: float) -> float:
        """Seconds for which the queue is still looked through: requests of a healthy region may stand in it."""
        if now - self._sifted_at >= _SIFT_EVERY:
            self._sifted_at = now
        return self._sifted_at + _SIFT - now

    def _pause(self, used: Sequence[Region], probes: Sequence[float], now: float) -> Wish:
        if any(region.waiting or region.in_use for region in used):
            return Wish(True, self.prefetch)
        # Nothing is in hand that could be a probe: one request is taken in when it is time.
        due = min(probes)
        return Wish(True, self.prefetch, due) if due > 0 else Wish(False, 1)

    def _fit(self, used: Sequence[Region], now: float) -> Wish:
        limit = sum(region.limit for region in used)
        wanted = min(self._ceiling, ceil(limit * _SPARE) + _MORE)
        if wanted * 2 > self.prefetch or sum(region.waiting for region in used) <= limit:
            self._low_since = None
            if wanted * 4 > self.prefetch * 5:
                self.prefetch = min(self._ceiling, max(wanted, self.prefetch * 2))
            return Wish(False, self.prefetch)
        self._low_since = now if self._low_since is None else self._low_since
        rest = self._low_since + _PERSISTENT - now
        if rest > 0:
            return Wish(False, self.prefetch, rest)
        self.prefetch, self._low_since = wanted, None
        return Wish(False, self.prefetch)
