"""What came of a plan."""

from dataclasses import dataclass, field

from tests.simulation.scenario.plan import Plan

TimelineEntry = tuple[float, str, str]
"""When, who, what."""


@dataclass(slots=True)
class RunResult:
    """What came of a plan."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    """What went wrong outside of the guarantee."""
    points: list[str] = field(default_factory=list)
    injected: dict[int, str] = field(default_factory=dict)
    timeline: list[TimelineEntry] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0
