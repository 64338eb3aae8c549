"""Exploration: enumerated runs with one fault each, random runs by seed, and smaller plans for runs that fail."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, Final

from tests.simulation.report import Failure, Report, kind
from tests.simulation.scenario.call_endings import CALL_ENDINGS, Classify
from tests.simulation.scenario.fault_points import faults_of_points
from tests.simulation.scenario.plan import Plan, PlannedRequest
from tests.simulation.scenario.random_plans import sampled
from tests.simulation.world.assembly import Assemble
from tests.simulation.world.records import RunResult
from tests.simulation.world.simulation import simulate
from worker.policy import error_table

FIRST_SEED: Final = 1
MAX_SHRINK_PORT_CALLS: Final = 30_000
"""Bound of the search for a smaller plan with the same kind of violation."""
MAX_TIMELINE_LINES: Final = 200
"""Longer timelines lose their middle."""
MAX_ENUMERATED_SHARE: Final = 0.5
"""Share of the runs that may be enumerated ones."""

ENUMERATED_SETTINGS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"reconcile": "ambiguous"},
    {"claims": True, "reconcile": "ambiguous"},
    {"claims": True, "claims_away": "pause"},
    {"claims": True, "follow_up_timeout": 100.0},
)


def explore(
    assemble: Assemble,
    *,
    runs: int,
    seed: int | None = None,
    classify: Classify = error_table.row,
    until_broken: bool = False,
) -> Report:
    """Make the runs and check each. With a seed they are random runs only, from that seed on."""
    started = time.perf_counter()
    report = Report()
    run_plan = partial(simulate, assemble=assemble, classify=classify)
    for plan, plan_seed in _plans(runs, seed, run_plan, report):
        result = run_plan(plan)
        if report.add(result):
            report.failures.append(_failure(result, run_plan, plan_seed))
        if until_broken and report.broken:
            break
    report.seconds = time.perf_counter() - started
    return report


def replay(plan: Plan, assemble: Assemble, classify: Classify = error_table.row) -> tuple[RunResult, tuple[str, ...]]:
    """Make one run; its result and its timeline."""
    result = simulate(plan, assemble, classify, with_timeline=True)
    lines = [f"{at:12.3f}  {who:<6}  {what}" for at, who, what in result.timeline]
    if len(lines) > MAX_TIMELINE_LINES:
        lines[MAX_TIMELINE_LINES // 2 : -MAX_TIMELINE_LINES // 2] = [
            f"{'...':>12}  {len(lines) - MAX_TIMELINE_LINES} lines"
        ]
    return result, tuple(lines)


def _plans(
    runs: int, seed: int | None, run_plan: "partial[RunResult]", report: Report
) -> Iterator[tuple[Plan, int | None]]:
    """Plans of an exploration, each with its seed if it is a random one. Counts them in the report."""
    chosen: list[Plan] = []
    if seed is None:
        chosen = _enumerated(run_plan)
        report.enumerable = len(chosen)
        Random(FIRST_SEED).shuffle(chosen)
        del chosen[int(runs * MAX_ENUMERATED_SHARE) :]
    report.first_seed = FIRST_SEED if seed is None else seed
    # In turns, so that an exploration that stops at the first failure stops early.
    for number in range(runs):
        if report.enumerated < len(chosen) and number % 2:
            report.enumerated += 1
            yield chosen[report.enumerated - 1], None
        else:
            plan_seed = report.first_seed + report.sampled
            report.sampled += 1
            yield sampled(plan_seed), plan_seed


def _enumerated(run_plan: "partial[RunResult]") -> list[Plan]:
    """Plans of one request: every ending of its first create, every fault at every point, with these settings."""
    plans: list[Plan] = []
    for settings in ENUMERATED_SETTINGS:
        for ending in CALL_ENDINGS:
            plan = Plan(requests=(PlannedRequest(call_endings=(ending,)),), **settings)
            plans.append(plan)
            points = run_plan(plan).points
            for number, fault in faults_of_points(points, has_claims=plan.claims):
                plans.append(plan.model_copy(update={"faults": {number: fault}}))
    return plans


def _failure(result: RunResult, run_plan: "partial[RunResult]", seed: int | None) -> Failure:
    kinds = {kind(violation) for violation in result.violations}
    remaining = MAX_SHRINK_PORT_CALLS

    def fails(plan: Plan) -> bool:
        nonlocal remaining
        if remaining <= 0:
            return False
        attempt = run_plan(plan)
        remaining -= len(attempt.points) + 10
        return not kinds.isdisjoint(map(kind, attempt.violations))

    smallest = shrink(result, fails)
    replayed, timeline = replay(smallest, run_plan.keywords["assemble"], run_plan.keywords["classify"])
    return Failure(tuple(replayed.violations), smallest, timeline, seed)


_PLAN_DEFAULTS: Final[dict[str, Any]] = {
    name: Plan.model_fields[name].default
    for name in (
        "replicas",
        "has_shared_name",
        "text_form",
        "listing_lag",
        "tries",
        "prefetch",
        "delays",
        "reconcile",
        "claims_away",
        "marker",
        "repeats_at_end",
    )
}
_REQUEST_DEFAULTS: Final[dict[str, Any]] = {
    name: PlannedRequest.model_fields[name].default
    for name in ("copies", "clashes", "not_after", "kills_at", "unrelated_tasks")
}


def shrink(result: RunResult, fails: Callable[[Plan], bool]) -> Plan:
    """Smaller plan that fails alike: random faults become planned ones, and what it does not need is removed."""
    plan = result.plan.model_copy(update={"fault_rate": 0.0, "fault_budget": 0, "faults": dict(result.injected)})
    if not fails(plan):
        return result.plan
    while (smaller := next(filter(fails, _smaller_plans(plan)), None)) is not None:
        plan = smaller
    return plan


def _smaller_plans(plan: Plan) -> Iterator[Plan]:
    """Every plan with one element less."""
    for number, request in enumerate(plan.requests):
        before, after = plan.requests[:number], plan.requests[number + 1 :]
        if before or after:
            yield plan.model_copy(update={"requests": before + after})
        for smaller in _smaller_requests(request):
            yield plan.model_copy(update={"requests": (*before, smaller, *after)})
    for point in plan.faults:
        yield plan.model_copy(update={"faults": {n: fault for n, fault in plan.faults.items() if n != point}})
    for number in range(len(plan.timed_faults)):
        yield plan.model_copy(update={"timed_faults": _without(plan.timed_faults, number)})
    for name, default in _PLAN_DEFAULTS.items():
        if getattr(plan, name) != default:
            yield plan.model_copy(update={name: default})


def _smaller_requests(request: PlannedRequest) -> Iterator[PlannedRequest]:
    for name in ("call_endings", "copies"):
        values = getattr(request, name)
        for number in range(len(values)):
            yield request.model_copy(update={name: _without(values, number)})
    for name, default in _REQUEST_DEFAULTS.items():
        if getattr(request, name) != default:
            yield request.model_copy(update={name: default})


def _without(values: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    return values[:number] + values[number + 1 :]
