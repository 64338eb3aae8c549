"""Fault points: every port call of a replica, numbered, and the fault that happens there."""

from collections.abc import Iterable
from functools import lru_cache
from random import Random
from typing import Final

from tests.simulation.scenario.call_endings import LOOKUP_FAULTS
from tests.simulation.scenario.plan import Plan

FAULTS_ANYWHERE: Final = (
    "crash",
    "channel",
    "channel-here",
    "cut",
    "freeze",
    "freeze-long",
    "stall",
    "drain",
    "broker",
)
"""Faults that can happen to a replica at any time."""
CLAIMS_FAULTS_ANYWHERE: Final = ("copy", "claims-away", "claims-cut", "claims-flush")
FAULTS_BY_POINT: Final[dict[str, tuple[str, ...]]] = {
    "event.before": ("nack", "publisher-away"),
    "copy.before": ("nack", "publisher-away", "published-twice"),
    "park.before": ("nack", "publisher-away"),
    "event.after": ("confirm-lost",),
    "copy.after": ("confirm-lost",),
    "park.after": ("confirm-lost",),
    "ack.before": ("ack-lost",),
    "lookup.before": (*LOOKUP_FAULTS, "lookup-reset"),
    "lookup.after": ("lookup-slow",),
    "claim.after": ("claim-reply-lost",),
    "watch.before": ("nack", "publisher-away", "published-twice"),
    "watch.after": ("confirm-lost",),
    "look.before": (*LOOKUP_FAULTS, "lookup-reset"),
}
"""Faults of a single port call."""


@lru_cache(maxsize=256)
def possible_faults(point: str, *, has_claims: bool) -> tuple[str, ...]:
    """Faults that can happen at a fault point."""
    return FAULTS_BY_POINT.get(point, ()) + FAULTS_ANYWHERE + (CLAIMS_FAULTS_ANYWHERE if has_claims else ())


class FaultPoints:
    """Counter of the fault points of a run. A planned fault happens at its number, random ones within the budget."""

    def __init__(self, plan: Plan, rng: Random) -> None:
        self.passed: list[str] = []
        self.injected: dict[int, str] = {}
        """Faults so far, by the number of their fault point."""
        self._plan = plan
        self._rng = rng
        self._budget_left = plan.fault_budget

    def pass_point(self, point: str) -> str | None:
        """Pass a fault point. Returns the fault that happens here, if any."""
        number = len(self.passed)
        self.passed.append(point)
        fault = self._plan.faults.get(number)
        if fault is None and self._budget_left and self._rng.random() < self._plan.fault_rate:
            fault = self._random_fault(point)
        if fault is not None:
            self.injected[number] = fault
        return fault

    def _random_fault(self, point: str) -> str | None:
        """A random fault, if it can happen here."""
        candidates = possible_faults(point, has_claims=self._plan.claims)
        fault = self._rng.choice(self._plan.only_faults or candidates)
        if fault not in candidates:
            return None
        self._budget_left -= 1
        return fault


def faults_of_points(points: Iterable[str], *, has_claims: bool) -> Iterable[tuple[int, str]]:
    """Every fault point of a run with every fault that can happen there."""
    for number, point in enumerate(points):
        for fault in possible_faults(point, has_claims=has_claims):
            yield number, fault
