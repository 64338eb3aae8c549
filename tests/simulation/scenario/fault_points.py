"""Points: every port call of a replica, numbered, and which fault is due at which."""

from collections.abc import Iterable
from functools import lru_cache
from random import Random
from typing import Final

from tests.simulation.scenario.call_endings import LOOKS
from tests.simulation.scenario.plan import Plan

ANYWHERE: Final = ("crash", "channel", "channel-here", "cut", "freeze", "freeze-long", "stall", "drain", "broker")
"""What can befall a replica at any time."""
CLAIMS_ANYWHERE: Final = ("copy", "claims-away", "claims-flush")
AT: Final[dict[str, tuple[str, ...]]] = {
    "event.before": ("nack", "away"),
    "copy.before": ("nack", "away", "twice"),
    "park.before": ("nack", "away"),
    "event.after": ("unheard",),
    "copy.after": ("unheard",),
    "park.after": ("unheard",),
    "ack.before": ("ack-lost",),
    "find.before": (*LOOKS, "look-reset"),
    "find.after": ("look-slow",),
    "take.after": ("claim-unheard",),
}
"""What can befall one port call."""


@lru_cache(maxsize=256)
def possible(point: str, *, has_claims: bool) -> tuple[str, ...]:
    """The faults that can strike at a point."""
    return AT.get(point, ()) + ANYWHERE + (CLAIMS_ANYWHERE if has_claims else ())


class Points:
    """Numbers the points of a run; a planned fault strikes at its number, others by chance within the budget."""

    def __init__(self, plan: Plan, rng: Random) -> None:
        self.passed: list[str] = []
        self.struck: dict[int, str] = {}
        """The faults so far, by the number of their point."""
        self._plan = plan
        self._rng = rng
        self._left = plan.budget

    def pass_by(self, point: str) -> str | None:
        """The fault that strikes here, if any."""
        number = len(self.passed)
        self.passed.append(point)
        fault = self._plan.faults.get(number)
        if fault is None and self._left and self._rng.random() < self._plan.rate:
            fault = self._drawn(point)
        if fault is not None:
            self.struck[number] = fault
        return fault

    def _drawn(self, point: str) -> str | None:
        """A fault by chance, if it is one that can strike here."""
        candidates = possible(point, has_claims=self._plan.claims)
        fault = self._rng.choice(self._plan.only or candidates)
        if fault not in candidates:
            return None
        self._left -= 1
        return fault


def faults(points: Iterable[str], *, has_claims: bool) -> Iterable[tuple[int, str]]:
    """Every point of a run with every fault that can strike there."""
    for number, point in enumerate(points):
        for fault in possible(point, has_claims=has_claims):
            yield number, fault
