"""What came of a plan."""

from dataclasses import dataclass, field

from tests.simulation.scenario.plan import Plan

Note = tuple[float, str, str]
"""When, who, what."""


@dataclass(slots=True)
class Run:
    """What came of a plan."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    """What went wrong outside of the guarantee."""
    points: list[str] = field(default_factory=list)
    struck: dict[int, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0
