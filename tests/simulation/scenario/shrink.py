"""Smaller plans that fail alike: a timeline that can be read."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.simulation.scenario.plan import Errand, Plan
from tests.simulation.world.run import Run

_PLAIN: Final[dict[str, Any]] = {
    name: Plan.model_fields[name].default
    for name in ("replicas", "one_name", "lag", "tries", "prefetch", "delays", "reconcile", "marker", "has_echo")
}
_PLAIN_ERRAND: Final[dict[str, Any]] = {
    name: Errand.model_fields[name].default for name in ("copies", "clashes", "not_after", "kills", "strangers")
}


def shrunk(run: Run, fails: Callable[[Plan], bool]) -> Plan:
    """The plan of `run` with its chance faults written down, and without whatever it fails without as well."""
    plan = run.plan.model_copy(update={"rate": 0.0, "budget": 0, "faults": dict(run.struck)})
    if not fails(plan):
        return run.plan
    while (smaller := next(filter(fails, _smaller(plan)), None)) is not None:
        plan = smaller
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Every plan with one thing less."""
    for number, errand in enumerate(plan.errands):
        before, after = plan.errands[:number], plan.errands[number + 1 :]
        if before or after:
            yield plan.model_copy(update={"errands": before + after})
        for smaller in _smaller_errands(errand):
            yield plan.model_copy(update={"errands": (*before, smaller, *after)})
    for point in plan.faults:
        yield plan.model_copy(update={"faults": {n: fault for n, fault in plan.faults.items() if n != point}})
    for number in range(len(plan.timed)):
        yield plan.model_copy(update={"timed": _without(plan.timed, number)})
    for name, plain in _PLAIN.items():
        if getattr(plan, name) != plain:
            yield plan.model_copy(update={name: plain})


def _smaller_errands(errand: Errand) -> Iterator[Errand]:
    for name in ("script", "copies"):
        values = getattr(errand, name)
        for number in range(len(values)):
            yield errand.model_copy(update={name: _without(values, number)})
    for name, plain in _PLAIN_ERRAND.items():
        if getattr(errand, name) != plain:
            yield errand.model_copy(update={name: plain})


def _without(values: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    return values[:number] + values[number + 1 :]
