"""How many replicas are of use: as many as the backlog needs, and no more than the service can feed.

What a replica sees of its own work stands for all of them, so the average over the replicas is right as a sum:

    load    share of one replica that was in use: of its hands, of its set rate, of its processor, whichever is most
    needed  = N * load + ready * (replica-seconds of a request) / WITHIN
    fed     = calls per second that the service bears from all N together * (replica-seconds of a call)
    useful  = sum over feeds of min(share of the requests in hand * needed, fed), at most DOUBLE * N
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

WITHIN: Final = 60.0
"""Seconds within which a backlog is to be worked off, were it not for the service."""
DOUBLE: Final = 2.0
"""Times the replicas that there are: more is believed only when those have met no bound either."""
_USUAL: Final = 1.0
"""Seconds in calls of one request, until it is known."""
_MANY: Final = 60
"""Calls of a minute from which on the processor's time is theirs, and not that of health checks."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What this replica did in the last minute, or since it started."""

    seconds: float
    ended: int = 0
    """Deliveries."""
    calls: int = 0
    call_seconds: float = 0.0
    """Of all calls together."""
    cpu_seconds: float = 0.0
    """Of the whole process."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A part of the service with a bound of its own, as this replica sees it: a region, or a project in trouble."""

    hands: float
    """Requests in hand that want to be fed by it."""
    is_sick: bool = False
    """Its breaker is open."""
    borne: float | None = None
    """Calls per second that it bears from this replica; None: no bound was met."""
    quota: float | None = None
    """Calls per second that it names as its whole quota."""

    def calls(self, replicas: int) -> float:
        """Calls per second that it bears from all replicas together; infinite: no bound was met."""
        if self.is_sick:
            return 0.0
        return inf if self.borne is None else min(self.borne * replicas, self.quota or inf)


@dataclass(frozen=True, slots=True)
class Replicas:
    """What is known when it is asked how many replicas are of use."""

    count: int
    """Replicas that there are: consumers of the queue."""
    ready: int
    """Requests that wait in the queue."""
    hands: int
    """Requests that one replica may have in hand at once."""
    minute: Minute
    feeds: Sequence[Feed]
    rate: float | None = None
    """Calls per second that a replica may make by its settings; None: as many as it can."""
    is_held: bool = False
    """Nothing is consumed, and not because of the service: whatever it is, others would not be better off."""

    @property
    def needed(self) -> float:
        """As many as the requests that come and those that wait would keep busy, were it not for the service."""
        return max(1, self.count) * self._load() + self.ready * self._cost(self.minute.ended) / WITHIN

    @property
    def useful(self) -> float:
        """As many of those as the service can feed."""
        if self.is_held:
            return 0.0
        replicas, needed, cost = max(1, self.count), self.needed, self._cost(self.minute.calls)
        hands = [feed.hands for feed in self.feeds]
        parts = hands if any(hands) else [1.0] * len(hands)
        return min(
            DOUBLE * replicas,
            sum(
                min(needed * part / sum(parts), feed.calls(replicas) * cost)
                for part, feed in zip(parts, self.feeds, strict=True)
            ),
        )

    def _load(self) -> float:
        minute = self.minute
        cpu = minute.cpu_seconds if minute.calls >= _MANY else 0.0
        rated = minute.calls / self.rate if self.rate else 0.0
        return max(minute.call_seconds / self.hands, rated, cpu) / minute.seconds

    def _cost(self, count: int) -> float:
        """Replica-seconds of one of so many that there were in the minute."""
        if count and (load := self._load()):
            return load * self.minute.seconds / count
        return max(_USUAL / self.hands, 1.0 / self.rate if self.rate else 0.0)
