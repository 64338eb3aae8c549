"""Report of an exploration: coverage, windows and violations."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final

from tests.simulation.scenario.plan import Plan
from tests.simulation.world.records import RunResult

MAX_FAILURE_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that broke a law, with the smallest plan that was found for it."""

    violations: tuple[str, ...]
    plan: Plan
    timeline: tuple[str, ...]
    seed: int | None
    """Seed of a random run."""

    @property
    def kind(self) -> str:
        """The first violation without its numbers."""
        return kind(self.violations[0])

    def lines(self) -> Iterator[str]:
        """Lines of text about the failure."""
        yield f"BROKEN: {'; '.join(dict.fromkeys(self.violations))}"
        yield from self.timeline
        yield f"Replay: python -m tests.simulation --plan '{self.plan.to_text()}'"
        if self.seed is not None:
            yield f"Found by: make prove ARGS='--runs 1 --seed {self.seed}'"


@dataclass(slots=True)
class Report:
    """Counts of all runs, and an example of each kind of failure."""

    enumerated: int = 0
    enumerable: int = 0
    """Number of runs of a complete enumeration."""
    sampled: int = 0
    first_seed: int | None = None
    points: int = 0
    calls: int = 0
    virtual_seconds: float = 0.0
    seconds: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)
    """Runs with a violation that no worker can avoid in that configuration, by kind."""
    broken: Counter[str] = field(default_factory=Counter)
    """Runs that broke a law, by kind of violation."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return self.enumerated + self.sampled

    @property
    def is_good(self) -> bool:
        """Whether no run broke a law."""
        return not self.broken

    def add(self, run: RunResult) -> bool:
        """Count a run. True if it shows a kind of failure without an example so far."""
        self.points += len(run.points)
        self.calls += run.calls
        self.virtual_seconds += run.seconds
        self.injected.update(run.injected.values())
        self.injected.update(timed_faults.fault for timed_faults in run.plan.timed_faults)
        self.passed.update(run.points)
        self.windows.update(set(run.windows))
        kinds = {kind(violation) for violation in run.violations}
        is_new = not kinds <= self.broken.keys()
        self.broken.update(kinds)
        return is_new and len(self.failures) < MAX_FAILURE_EXAMPLES

    def to_record(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        record = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"runs": self.runs, "is_good": self.is_good, **record, "failures": list(map(_record, self.failures))}

    def lines(self) -> Iterator[str]:
        """Lines of text of the report."""
        for failure in self.failures:
            yield from failure.lines()
            yield ""
        yield f"{self.runs:,} runs in {self.seconds:.1f} s, {self.virtual_seconds / 86400:,.0f} days of virtual time"
        yield from self._covered()
        yield from _table("faults", self.injected)
        yield from _table("points", self.passed)
        yield from _table("outside of the guarantee", self.windows)
        yield from _table("BROKEN", self.broken)
        if self.is_good:
            yield "No law was broken."

    def _covered(self) -> Iterator[str]:
        if self.enumerated:
            share = f"{self.enumerated:,} of {self.enumerable:,} runs"
            yield f"  enumerated: {share} (one request, one ending, each fault at each point)"
        if self.sampled:
            assert self.first_seed is not None
            last = self.first_seed + self.sampled - 1
            yield f"  sampled: {self.sampled:,} runs, seeds {self.first_seed} to {last}"
        yield f"  {self.points:,} port calls, {self.calls:,} create calls, {self.injected.total():,} faults"


def _record(failure: Failure) -> dict[str, Any]:
    plan = failure.plan.model_dump(mode="json", exclude_defaults=True)
    return {"violations": failure.violations, "plan": plan, "seed": failure.seed, "timeline": failure.timeline}


def kind(violation: str) -> str:
    """A violation without its numbers."""
    return re.sub(r"\d+(\.\d+)?", "N", violation)


def _table(title: str, counts: Counter[str]) -> Iterator[str]:
    if counts:
        yield f"{title}:"
        yield from (f"  {count:>9,}  {name}" for name, count in sorted(counts.items()))
