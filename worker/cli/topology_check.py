"""`dcs-worker topology check`: whether what is on the broker is what the worker needs. It changes nothing."""

from collections.abc import Sequence

import typer

from worker.bootstrap import from_settings
from worker.cli.common import EXIT_CONFIGURATION, EXIT_OK, EXIT_UNAVAILABLE
from worker.cli.doctor.report import print_json, print_table
from worker.config import Settings
from worker.policy.diagnostics import Check, FailureKind, most_urgent_failure
from worker.rabbit.checks import Node
from worker.rabbit.inventory import check_topology
from worker.rabbit.reach import UnreachableError, reached
from worker.rabbit.topology import Topology


async def check(settings: Settings, plan: Topology, *, as_json: bool) -> int:
    """Print what is there and what is not as wanted; the exit status."""
    checks: list[Check] = []
    brokers = from_settings.brokers(settings)
    try:
        async with reached(brokers, "dcs-worker topology") as connection:
            await check_topology(connection, plan, Node.of(brokers.urls[0]), checks.append)
    except UnreachableError as error:
        typer.echo(str(error), err=True)
        return EXIT_UNAVAILABLE
    status = _exit_status(checks)
    if as_json:
        print_json(checks, status)
    else:
        print_table(checks)
    return status


def _exit_status(checks: Sequence[Check]) -> int:
    match most_urgent_failure(checks):
        case None:
            return EXIT_OK
        case FailureKind.UNREACHABLE:
            return EXIT_UNAVAILABLE
        case _:
            return EXIT_CONFIGURATION
