"""`dcs-worker topology check`: whether what is on the broker is what the worker needs. It changes nothing."""

from collections.abc import Sequence

import typer

from worker.bootstrap import from_settings
from worker.cli.checkup.report import show, show_json
from worker.cli.common import CONFIGURATION, DONE, UNAVAILABLE
from worker.config import Settings
from worker.policy.checkup import Check, Trouble, trouble
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
        return UNAVAILABLE
    status = _status(checks)
    if as_json:
        show_json(checks, status)
    else:
        show(checks)
    return status


def _status(checks: Sequence[Check]) -> int:
    match trouble(checks):
        case None:
            return DONE
        case Trouble.UNREACHABLE:
            return UNAVAILABLE
        case _:
            return CONFIGURATION
