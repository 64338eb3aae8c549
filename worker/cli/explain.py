"""The command `dcs-worker explain`: prints the timeline of a request."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.common import EXIT_FAILED, EXIT_OK, Json, exit_status_of, load_configuration, run_interruptible

if TYPE_CHECKING:
    from worker.config import Settings

STANDARD_INPUT: Final = "-"


def explain(
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a parked request; - reads messages from standard input.")
    ],
    *,
    listen: Annotated[bool, typer.Option("--listen", help="Wait for the next event of the request.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to listen.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Print the timeline of one request.

    It lists calls with their results, waits with their reasons, and interrupted deliveries.

    Source: the parked request; with --listen the next event; with - standard input, which has events or parked
    requests with headers, as `parked export`, rabbitmqadmin and RabbitMQ's management API write them.

    Exit status: 0 printed, 1 no such request, event or message, 69 the broker cannot be reached, 78 configuration.

    Example: dcs-worker explain 4f6f2a34-9f0e-4a52-8a39-6f2c3c1d3f10
    """
    settings = load_configuration().settings
    if identity == STANDARD_INPUT:
        if listen:
            raise typer.BadParameter("- and --listen cannot be combined")
        raise typer.Exit(_explain_stdin(settings, as_json=as_json))

    from worker.cli.explain_broker import explain_next_event, explain_parked

    work = (
        explain_next_event(settings, identity, timeout, as_json=as_json)
        if listen
        else explain_parked(settings, identity, as_json=as_json)
    )
    raise typer.Exit(run_interruptible(exit_status_of(work)))


def _explain_stdin(settings: "Settings", *, as_json: bool) -> int:
    from worker.cli.explain_broker import print_timelines
    from worker.cli.explain_stdin import InvalidMessageError, read_timelines

    try:
        print_timelines(list(read_timelines(sys.stdin.buffer.read(), settings)), as_json=as_json)
    except InvalidMessageError as error:
        typer.echo(str(error), err=True)
        return EXIT_FAILED
    return EXIT_OK
