"""The command `dcs-worker explain`: prints the timeline of a request, from the broker or from standard input."""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.cli.common import EXIT_OK, Json, fail, load_configuration, print_json, run_and_exit

if TYPE_CHECKING:
    from worker.cli.parked.timeline import RequestTimeline
    from worker.config import Settings
    from worker.rabbit.tools.event_stream import Event

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
        raise typer.Exit(_explain_messages(sys.stdin.buffer.read(), settings, as_json=as_json))
    if listen:
        run_and_exit(_explain_next_event(settings, identity, timeout, as_json=as_json))
    run_and_exit(_explain_parked(settings, identity, as_json=as_json))


def _print_timelines(timelines: "Sequence[RequestTimeline]", *, as_json: bool) -> int:
    from worker.cli.parked.timeline import render_timeline

    if as_json:
        print_json([timeline.as_json() for timeline in timelines])
    else:
        typer.echo("\n\n".join(map(render_timeline, timelines)))
    return EXIT_OK


async def _explain_parked(settings: "Settings", identity: str, *, as_json: bool) -> int:
    from worker.cli.parked.request import parked_queue, read_with_id
    from worker.cli.parked.timeline import timeline_of_parked

    async with parked_queue(settings) as queue:
        found = await read_with_id(queue, settings, identity)
        if found:
            return _print_timelines([timeline_of_parked(request) for request in found], as_json=as_json)
    return fail(
        f"No parked request has the id {identity!r}. `dcs-worker parked list --each` lists all. For other "
        "requests use --listen to wait for the event, or - to read a received event from standard input."
    )


async def _explain_next_event(settings: "Settings", identity: str, timeout: float, *, as_json: bool) -> int:
    from worker.bootstrap.components import brokers
    from worker.rabbit.tools.broker_access import open_connection
    from worker.rabbit.tools.event_stream import open_event_stream

    async with (
        open_connection(brokers(settings), "dcs-worker explain") as connection,
        open_event_stream(connection, settings.event_exchange) as events,
    ):
        typer.echo(f"Listening for the event of {identity!r} ...", err=True)
        try:
            async with asyncio.timeout(timeout):
                while (timeline := _timeline_if_of(identity, await anext(events))) is None:
                    pass
        except TimeoutError:
            missing = f"No event of {identity!r} within {timeout:g} s"
            return fail(f"{missing}; send the request again, then its event is repeated.")
    return _print_timelines([timeline], as_json=as_json)


def _timeline_if_of(identity: str, event: "Event") -> "RequestTimeline | None":
    from schemas.client import read_event
    from worker.cli.parked.timeline import timeline_of_event

    try:
        content = read_event(event.body)
    except ValueError:
        return None  # not an event of the worker
    is_ours = identity in (content.request_id, event.correlation_id)
    return timeline_of_event(content, event.headers) if is_ours else None


def _explain_messages(text: bytes, settings: "Settings", *, as_json: bool) -> int:
    """Print the timeline of each message in `text`; the exit status."""
    from worker.cli.parked.timeline import timeline_of_message

    try:
        messages = _parse(text)
    except (ValueError, RecursionError):
        return fail("Standard input is not JSON: give one message, or one per line.")
    if not messages:
        return fail("Standard input has no message.")
    timelines: list[RequestTimeline] = []
    for number, message in enumerate(messages, 1):
        try:
            timelines.append(timeline_of_message(message, settings))
        except (ValueError, TypeError, KeyError, RecursionError):
            return fail(f"Message {number} is neither an event nor a request of the worker.")
    return _print_timelines(timelines, as_json=as_json)


def _parse(text: bytes) -> list[Any]:
    """The messages of one JSON value, or of JSON Lines. Raises ValueError and RecursionError."""
    try:
        content = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return content if isinstance(content, list) else [content]
