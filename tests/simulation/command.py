"""`dcs-worker prove`: the deterministic proof, with the real flow."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.statuses import DONE, FAILED

if TYPE_CHECKING:
    from tests.simulation import Cast, Plan
    from worker.bootstrap.flows import Ports
    from worker.flow.service import Service


def prove(
    runs: Annotated[int, typer.Option(min=1, help="How many runs.")] = 20_000,
    *,
    seed: Annotated[int | None, typer.Option(help="Sampled runs only, from this seed on.")] = None,
    plan: Annotated[str | None, typer.Option(help="Replay this plan, as a failure prints it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Prove by simulation that each request gets one task and one event, whatever fails.

    The worker's own decisions run on a virtual clock, against a broker, a DCS and claims that fail at every point.
    A run in which a law is broken is printed as a timeline, with the command that replays it. One run alone is
    always printed.

    Exit status: 0 no law was broken, 1 one was.

    Example: dcs-worker prove --runs 100000
    """
    from tests.simulation import Plan, explore, replay, sampled

    if plan is None and runs > 1:
        report = explore(assemble, runs=runs, seed=seed)
        typer.echo(json.dumps(report.to_record()) if as_json else "\n".join(report.lines()))
        raise typer.Exit(DONE if report.is_good else FAILED)
    try:
        one = sampled(seed or 0) if plan is None else Plan.from_text(plan)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--plan") from None
    run, timeline = replay(one, assemble)
    typer.echo(json.dumps({"violations": run.violations, "timeline": timeline}) if as_json else "\n".join(timeline))
    for violation in () if as_json else run.violations:
        typer.echo(f"BROKEN: {violation}")
    raise typer.Exit(FAILED if run.violations else DONE)


def assemble(cast: "Cast", plan: "Plan") -> "Service":
    """One replica's flow, as `run` builds it, over the stand-ins of a proof."""
    from tests.simulation import REGION
    from worker.bootstrap.flows import flow
    from worker.flow.process import Reading

    return flow(ports(cast), plan.rules, Reading(65536, {REGION}, REGION, plan.marker))


def ports(cast: "Cast") -> "Ports":
    """The stand-ins as the flow wants them: with locks where there are claims, as in a running worker."""
    from tests.simulation import DEADLINE
    from worker.bootstrap.build import QUIET
    from worker.bootstrap.flows import Ports
    from worker.flow.fallback import ClaimsOrLocks

    claims = cast.claims and ClaimsOrLocks(cast.claims, cast.locks, quiet=DEADLINE + QUIET, clock=cast.clock)
    locks = None if cast.claims else cast.locks
    return Ports(cast.dcs, cast.publisher, cast.observer, claims, locks, cast.now, cast.chance, cast.sleep)
