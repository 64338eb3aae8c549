"""`make prove`: check by simulation that each request gets one task and one event under all faults.

The real decisions of the worker run on a virtual clock, with a broker, a DCS and claims that fail at every fault point.
A run that breaks a law is printed as a timeline, with the command that replays it. A single run is always printed.

Exit status: 0 no law was broken, 1 a law was broken, 2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from tests.simulation.explore import explore, replay
from tests.simulation.scenario.plan import Plan
from tests.simulation.scenario.random_plans import sampled
from tests.simulation.world.assembly import assemble


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulation. Returns the exit status."""
    given = _parser().parse_args(arguments)
    if given.plan is None and given.runs > 1:
        report = explore(assemble, runs=given.runs, seed=given.seed)
        sys.stdout.write((json.dumps(report.to_record()) if given.json else "\n".join(report.lines())) + "\n")
        return 0 if report.is_good else 1
    return _replay(given.plan or sampled(given.seed or 0), as_json=given.json)


def _replay(plan: Plan, *, as_json: bool) -> int:
    run, timeline = replay(plan, assemble)
    lines = [*timeline, *(f"BROKEN: {violation}" for violation in run.violations)]
    text = json.dumps({"violations": run.violations, "timeline": timeline}) if as_json else "\n".join(lines)
    sys.stdout.write(f"{text}\n")
    return 1 if run.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=_at_least_one, default=45_000, help="number of runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="random runs only, starting with this seed")
    parser.add_argument("--plan", type=_plan, help="replay this plan, as a failure prints it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1 run")
    return number


def _plan(text: str) -> Plan:
    try:
        return Plan.from_text(text)
    except ValueError as error:
        # argparse prints the message of its own exception only.
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
