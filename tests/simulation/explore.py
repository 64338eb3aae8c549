"""The proof: every point with every fault for short scripts, and long plans drawn by seed."""

import time
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Final

from tests.simulation.report import Failure, Report, kind
from tests.simulation.scenario.call_endings import CALL_ENDINGS, Classify
from tests.simulation.scenario.fault_points import faults_of_points
from tests.simulation.scenario.plan import Plan, PlannedRequest
from tests.simulation.scenario.random_plans import sampled
from tests.simulation.scenario.shrink import shrink
from tests.simulation.world.run import RunResult
from tests.simulation.world.shared import Assemble
from tests.simulation.world.simulation import simulate
from worker.policy import error_table

FIRST_SEED: Final = 1
MAX_SHRINK_PORT_CALLS: Final = 30_000
"""Port calls that may be made to find a smaller run that fails alike."""
MAX_TIMELINE_LINES: Final = 200
"""Of a timeline; beyond that its middle is left out."""
MAX_ENUMERATED_SHARE: Final = 0.5
"""At most this share of the runs is enumerated."""


def explore(
    assemble: Assemble,
    *,
    runs: int,
    seed: int | None = None,
    classify: Classify = error_table.row,
    until_broken: bool = False,
) -> Report:
    """Make so many runs; with a seed only sampled ones, from that seed on."""
    started = time.perf_counter()
    report = Report()
    run_plan = partial(simulate, assemble=assemble, classify=classify)
    for plan, drawn_by in _plans(runs, seed, run_plan, report):
        run = run_plan(plan)
        if report.add(run):
            report.failures.append(_failure(run, run_plan, drawn_by))
        if until_broken and report.broken:
            break
    report.seconds = time.perf_counter() - started
    return report


def replay(plan: Plan, assemble: Assemble, classify: Classify = error_table.row) -> tuple[RunResult, tuple[str, ...]]:
    """One run, with its timeline."""
    run = simulate(plan, assemble, classify, with_timeline=True)
    lines = [f"{at:12.3f}  {who:<6}  {what}" for at, who, what in run.timeline]
    if len(lines) > MAX_TIMELINE_LINES:
        lines[MAX_TIMELINE_LINES // 2 : -MAX_TIMELINE_LINES // 2] = [
            f"{'...':>12}  {len(lines) - MAX_TIMELINE_LINES} lines"
        ]
    return run, tuple(lines)


def _plans(
    runs: int, seed: int | None, run_plan: "partial[RunResult]", report: Report
) -> Iterator[tuple[Plan, int | None]]:
    """The plans of a proof, each with its seed if it was drawn by one; counts them in the report."""
    chosen: list[Plan] = []
    if seed is None:
        chosen = _enumerated(run_plan)
        report.enumerable = len(chosen)
        Random(FIRST_SEED).shuffle(chosen)
        del chosen[int(runs * MAX_ENUMERATED_SHARE) :]
    report.first_seed = FIRST_SEED if seed is None else seed
    # By turns, so that a proof that is stopped at the first failure stops early.
    for number in range(runs):
        if report.enumerated < len(chosen) and number % 2:
            report.enumerated += 1
            yield chosen[report.enumerated - 1], None
        else:
            drawn = report.first_seed + report.sampled
            report.sampled += 1
            yield sampled(drawn), drawn


def _enumerated(run_plan: "partial[RunResult]") -> list[Plan]:
    """One request, one ending of its first call, with and without claims: every point with every fault."""
    plans: list[Plan] = []
    for has_claims in (False, True):
        for ending in CALL_ENDINGS:
            plan = Plan(requests=(PlannedRequest(call_endings=(ending,)),), claims=has_claims)
            plans.append(plan)
            points = run_plan(plan).points
            for number, fault in faults_of_points(points, has_claims=has_claims):
                plans.append(plan.model_copy(update={"faults": {number: fault}}))
    return plans


def _failure(run: RunResult, run_plan: "partial[RunResult]", seed: int | None) -> Failure:
    wanted = {kind(violation) for violation in run.violations}
    remaining = MAX_SHRINK_PORT_CALLS

    def fails(plan: Plan) -> bool:
        nonlocal remaining
        if remaining <= 0:
            return False
        tried = run_plan(plan)
        remaining -= len(tried.points) + 10
        return not wanted.isdisjoint(map(kind, tried.violations))

    small = shrink(run, fails)
    again, timeline = replay(small, run_plan.keywords["assemble"], run_plan.keywords["classify"])
    return Failure(tuple(again.violations), small, timeline, seed)
