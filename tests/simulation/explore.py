"""The proof: every point with every fault for short scripts, and long plans drawn by seed."""

import time
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Final

from tests.simulation.report import Failure, Report, kind
from tests.simulation.scenario.call_endings import ENDINGS, Classify
from tests.simulation.scenario.fault_points import faults
from tests.simulation.scenario.plan import Errand, Plan
from tests.simulation.scenario.random_plans import sampled
from tests.simulation.scenario.shrink import shrunk
from tests.simulation.world.run import Run
from tests.simulation.world.shared import Assemble
from tests.simulation.world.simulation import play
from worker.policy import error_table

FIRST_SEED: Final = 1
EFFORT: Final = 30_000
"""Port calls that may be made to find a smaller run that fails alike."""
LINES: Final = 200
"""Of a timeline; beyond that its middle is left out."""
ENUMERATED: Final = 0.5
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
    player = partial(play, assemble=assemble, classify=classify)
    for plan, drawn_by in _plans(runs, seed, player, report):
        run = player(plan)
        if report.add(run):
            report.failures.append(_failure(run, player, drawn_by))
        if until_broken and report.broken:
            break
    report.seconds = time.perf_counter() - started
    return report


def replay(plan: Plan, assemble: Assemble, classify: Classify = error_table.row) -> tuple[Run, tuple[str, ...]]:
    """One run, with its timeline."""
    run = play(plan, assemble, classify, with_notes=True)
    lines = [f"{at:12.3f}  {who:<6}  {what}" for at, who, what in run.notes]
    if len(lines) > LINES:
        lines[LINES // 2 : -LINES // 2] = [f"{'...':>12}  {len(lines) - LINES} lines"]
    return run, tuple(lines)


def _plans(runs: int, seed: int | None, player: "partial[Run]", report: Report) -> Iterator[tuple[Plan, int | None]]:
    """The plans of a proof, each with its seed if it was drawn by one; counts them in the report."""
    chosen: list[Plan] = []
    if seed is None:
        chosen = _enumerated(player)
        report.enumerable = len(chosen)
        Random(FIRST_SEED).shuffle(chosen)
        del chosen[int(runs * ENUMERATED) :]
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


def _enumerated(player: "partial[Run]") -> list[Plan]:
    """One request, one ending of its first call, with and without claims: every point with every fault."""
    plans: list[Plan] = []
    for has_claims in (False, True):
        for ending in ENDINGS:
            plan = Plan(errands=(Errand(script=(ending,)),), claims=has_claims)
            plans.append(plan)
            points = player(plan).points
            for number, fault in faults(points, has_claims=has_claims):
                plans.append(plan.model_copy(update={"faults": {number: fault}}))
    return plans


def _failure(run: Run, player: "partial[Run]", seed: int | None) -> Failure:
    wanted = {kind(violation) for violation in run.violations}
    left = EFFORT

    def fails(plan: Plan) -> bool:
        nonlocal left
        if left <= 0:
            return False
        tried = player(plan)
        left -= len(tried.points) + 10
        return not wanted.isdisjoint(map(kind, tried.violations))

    small = shrunk(run, fails)
    again, timeline = replay(small, player.keywords["assemble"], player.keywords["classify"])
    return Failure(tuple(again.violations), small, timeline, seed)
