"""Projects that are throttled, refused or full, and how their requests step aside so that all others flow on.

What a throttled project may have waiting in hand is a share of all that may be in hand, as long as requests of others
come, or may stand behind its own in the queue; alone, it may use everything, for stepping aside has a price: who
comes back is looked for before it is created.
"""

from collections.abc import Hashable, Sequence
from math import inf
from typing import Final

from worker.policy.breaker import Breaker
from worker.policy.pace import Pace
from worker.policy.places import RETURNING, Places
from worker.policy.tempo import OF_PROJECT

_SHARE: Final = 4
_IN_HAND: Final = 10.0
"""Seconds until its turn that a throttled request may wait in hand."""
_CROWDED: Final = 5.0
"""Seconds for which a request of another project is remembered."""
_WITNESSES: Final = 64
"""Requests that are remembered while looking: when the first of them comes again, the queue was looked through."""
_SIFT: Final = 30.0
"""Seconds that looking through the queue for requests of others takes at most."""
_SIFT_EVERY: Final = (30.0, 300.0)
"""Seconds from one look through the queue to the next, where others were seen lately, and where not."""
_LATELY: Final = 600.0
PROJECTS: Final = 1000
"""Projects in trouble that are remembered."""


class Tenant:
    """One project in trouble."""

    def __init__(self, delays: Sequence[float]) -> None:
        self.pace = Pace()
        self.hold = Breaker(OF_PROJECT)
        self.why = ""
        """Why it is held, if it is."""
        self._places = Places(delays)
        self._looked: set[Hashable] = set()

    def __repr__(self) -> str:
        return f"<Tenant: {self.pace!r}, {self.hold!r}>"

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to remember."""
        return self.pace.rate is None and not self.hold.is_open

    def aside(self, request: Hashable, now: float, waiting: int, hands: int) -> tuple[float, str] | None:
        """How long its next call has to step aside, and why; None: it may be made, or wait behind `waiting` others."""
        if (wait := self.hold.wait(now)) > 0:
            return self._places.choose(RETURNING, wait, now), self.why
        rate = self.pace.rate
        if request in self._looked:
            self._looked.discard(request)
            return None
        if rate is None or waiting < max(1.0, min(hands, rate * _IN_HAND)):
            return None
        return self._places.choose(rate, 0.0, now), "throttled"

    def looked(self, request: Hashable) -> None:
        """A look-up found nothing: the create that follows does not step aside, or the look was for nothing."""
        if len(self._looked) >= PROJECTS:
            self._looked.clear()
        self._looked.add(request)


class Tenants:
    """The projects of one region that are in trouble."""

    def __init__(self, delays: Sequence[float]) -> None:
        self.known: dict[str, Tenant] = {}
        self._delays = delays
        self._others_at = self._sifted_at = -inf
        self._other = ""
        self._is_sifting = False
        self._witnesses: set[Hashable] = set()

    def __repr__(self) -> str:
        return f"<Tenants: {len(self.known)} in trouble>"

    def blamed(self, project: str) -> Tenant:
        """The project, in trouble from now on; beyond the bound the oldest one is forgotten."""
        if project == self._other:
            self._others_at = -inf
        if project not in self.known and len(self.known) >= PROJECTS:
            del self.known[next(iter(self.known))]
        return self.known.setdefault(project, Tenant(self._delays))

    def arrived(self, project: str, request: Hashable, now: float) -> Tenant | None:
        """A request of the project came; the tenant if it is in trouble."""
        tenant = self.known.get(project)
        if tenant is None:
            self._other, self._others_at = project, now
            return None
        every = _SIFT_EVERY[now - self._others_at > _LATELY]
        if self._is_sifting:
            self._is_sifting = request not in self._witnesses and now - self._sifted_at < _SIFT
        elif now - self._sifted_at > every:
            self._is_sifting, self._sifted_at = True, now
            self._witnesses.clear()
        return tenant

    def went_aside(self, request: Hashable) -> None:
        """A request stepped aside, and will come again."""
        if self._is_sifting and len(self._witnesses) < _WITNESSES:
            self._witnesses.add(request)

    def hands(self, now: float, in_hand: int) -> int:
        """How many requests of one throttled project may wait, of `in_hand` that there may be."""
        is_crowded = self._is_sifting or now - self._others_at < _CROWDED
        return max(1, in_hand // _SHARE) if is_crowded else in_hand
