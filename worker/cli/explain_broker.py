"""Timelines read from the broker, parked requests or the next event, and their output."""

import asyncio
import json
from collections.abc import Sequence

import typer

from schemas.client import read_event
from worker.bootstrap.components import brokers
from worker.cli.common import EXIT_FAILED, EXIT_OK
from worker.cli.parked.parked_queue import selected_requests, with_parked_queue
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import RequestTimeline, render_timeline, timeline_of_parked
from worker.config import Settings
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.tools.event_stream import Event, EventStream, open_event_stream
from worker.rabbit.tools.parked_queue import ParkedQueue


def print_timelines(timelines: Sequence[RequestTimeline], *, as_json: bool) -> None:
    """Print timelines as text or JSON."""
    if as_json:
        typer.echo(json.dumps([timeline.as_json() for timeline in timelines], indent=2))
    else:
        typer.echo("\n\n".join(map(render_timeline, timelines)))


async def explain_parked(settings: Settings, identity: str, *, as_json: bool) -> int:
    """Print the timelines of the parked requests with this id; the exit status."""

    async def explain(queue: ParkedQueue) -> int:
        found = await selected_requests(queue, settings, Selection(frozenset((identity,))))
        if not found:
            typer.echo(
                f"No parked request has the id {identity!r}. `dcs-worker parked list --each` lists all. For other "
                "requests use --listen to wait for the event, or - to read a received event from standard input.",
                err=True,
            )
            return EXIT_FAILED
        print_timelines([timeline_of_parked(request) for request in found], as_json=as_json)
        return EXIT_OK

    return await with_parked_queue(settings, explain)


async def explain_next_event(settings: Settings, identity: str, timeout: float, *, as_json: bool) -> int:
    """Wait for the next event of the request and print its timeline; the exit status."""
    async with (
        open_connection(brokers(settings), "dcs-worker explain") as connection,
        open_event_stream(connection, settings.event_exchange) as events,
    ):
        typer.echo(f"Listening for the event of {identity!r} ...", err=True)
        timeline = await _wait_for_event(events, identity, timeout)
    if timeline is None:
        sentence = f"No event of {identity!r} within {timeout:g} s; send the request again, then its event is repeated."
        typer.echo(sentence, err=True)
        return EXIT_FAILED
    print_timelines([timeline], as_json=as_json)
    return EXIT_OK


async def _wait_for_event(events: EventStream, identity: str, timeout: float) -> RequestTimeline | None:
    """The timeline of the next event of the request; None after `timeout` seconds. Raises BrokerError."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                if (timeline := _timeline_from(await anext(events), identity)) is not None:
                    return timeline
    except TimeoutError:
        return None


def _timeline_from(event: Event, identity: str) -> RequestTimeline | None:
    try:
        content = read_event(event.body)
    except ValueError:
        return None  # not an event of the worker
    is_ours = identity in (content.request_id, event.correlation_id)
    return RequestTimeline.from_event(content, event.headers) if is_ours else None
