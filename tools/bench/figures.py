"""The figures of a run, and what they must reach. Pure: nothing here measures or prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GROWTH = 0.15
"""What a request may cost more, at most, however many wait or are in flight."""
DRIFT_MB = 3.0


@dataclass(frozen=True)
class Entry:
    """What was found of one competitor: CPU and rate of its least disturbed round, else the median."""

    name: str
    title: str
    cpu_us: float
    per_second: float
    rss_mb: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Target:
    """One promise: `value` is at most `limit`; None: this run has not measured it."""

    what: str
    value: float | None
    limit: float
    unit: str = "x"

    @property
    def is_met(self) -> bool | None:
        """Whether the promise is kept; None if that is not known."""
        return None if self.value is None else self.value <= self.limit


@dataclass(frozen=True)
class Step:
    """One measurement of a series."""

    label: str
    cpu_us: float
    per_second: float
    rss_mb: float


@dataclass(frozen=True)
class Series:
    """The same worker under something that grows; `is_bound`: the cost may not grow with it."""

    title: str
    steps: tuple[Step, ...]
    is_bound: bool = False

    def growth(self, step: Step) -> float:
        """What a request costs more than at the first step, as a fraction."""
        return step.cpu_us / self.steps[0].cpu_us - 1

    def rate(self, step: Step) -> float:
        """How many times the rate of the first step."""
        return step.per_second / self.steps[0].per_second

    @property
    def worst(self) -> float:
        """The greatest growth."""
        return max(map(self.growth, self.steps))


def targets(
    entries: Sequence[Entry], series: Sequence[Series], *, service_ms: float, drift_mb: float | None
) -> list[Target]:
    """Every promise about speed, with what was found."""
    by_name = {entry.name: entry for entry in entries}
    added = {name: entry.p99_ms - service_ms for name, entry in by_name.items()}
    cost = {name: entry.cpu_us for name, entry in by_name.items()}
    worker = by_name.get("worker")
    return [
        Target("CPU, to FastStream + httpx", _ratio(cost, "worker", "faststream"), 0.65),
        Target("CPU, to the bare loop in Python", _ratio(cost, "worker", "bare-python"), 2.8),
        Target("CPU, info log to a file, to log level warning", _ratio(cost, "worker-logged", "worker"), 1.15),
        Target("CPU, with claims in Redis, to without", _ratio(cost, "worker-claims", "worker"), 1.4),
        Target("p99 added at low load, to the bare loop in Python", _ratio(added, "worker", "bare-python"), 2.0),
        Target("RSS at 64 in flight", worker.rss_mb if worker else None, 90.0, "MB"),
        Target("RSS, change over 200,000 requests", drift_mb, DRIFT_MB, "MB"),
        *(Target(f"CPU, growth by {one.title}", one.worst * 100, GROWTH * 100, "%") for one in series if one.is_bound),
    ]


def _ratio(figures: Mapping[str, float], name: str, to: str) -> float | None:
    if name not in figures or to not in figures:
        return None
    return figures[name] / figures[to]
