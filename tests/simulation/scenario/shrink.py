"""Smaller plans that fail alike: a timeline that can be read."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.simulation.scenario.plan import Plan, PlannedRequest
from tests.simulation.world.run import RunResult

_PLAN_DEFAULTS: Final[dict[str, Any]] = {
    name: Plan.model_fields[name].default
    for name in (
        "replicas",
        "has_shared_name",
        "listing_lag",
        "tries",
        "prefetch",
        "delays",
        "reconcile",
        "marker",
        "repeats_at_end",
    )
}
_REQUEST_DEFAULTS: Final[dict[str, Any]] = {
    name: PlannedRequest.model_fields[name].default
    for name in ("copies", "clashes", "not_after", "kills_at", "unrelated_tasks")
}


def shrink(run: RunResult, fails: Callable[[Plan], bool]) -> Plan:
    """The plan of `run` with its chance faults written down, and without whatever it fails without as well."""
    plan = run.plan.model_copy(update={"fault_rate": 0.0, "fault_budget": 0, "faults": dict(run.injected)})
    if not fails(plan):
        return run.plan
    while (smaller := next(filter(fails, _smaller(plan)), None)) is not None:
        plan = smaller
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Every plan with one thing less."""
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
    for name, plain in _PLAN_DEFAULTS.items():
        if getattr(plan, name) != plain:
            yield plan.model_copy(update={name: plain})


def _smaller_requests(request: PlannedRequest) -> Iterator[PlannedRequest]:
    for name in ("call_endings", "copies"):
        values = getattr(request, name)
        for number in range(len(values)):
            yield request.model_copy(update={name: _without(values, number)})
    for name, plain in _REQUEST_DEFAULTS.items():
        if getattr(request, name) != plain:
            yield request.model_copy(update={name: plain})


def _without(values: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    return values[:number] + values[number + 1 :]
