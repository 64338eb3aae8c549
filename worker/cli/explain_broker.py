"""Where tales come from on the broker, and how they are shown."""

import asyncio
import json
from collections.abc import Sequence

import typer

from schemas.client import read_event
from worker.bootstrap.from_settings import brokers
from worker.cli.common import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE
from worker.cli.parked.parked_queue import selected_requests, with_parked_queue
from worker.cli.parked.parked_timeline import timeline_of_parked
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import RequestTimeline
from worker.cli.parked.timeline_text import render_timeline
from worker.config import ConfigurationError, Settings
from worker.rabbit.follower import Event, Events, FollowError, following
from worker.rabbit.reach import UnreachableError, reached
from worker.rabbit.shelf import Shelf


def print_timelines(timelines: Sequence[RequestTimeline], *, as_json: bool) -> None:
    """Print them."""
    if as_json:
        typer.echo(json.dumps([timeline.as_json() for timeline in timelines], indent=2))
    else:
        typer.echo("\n\n".join(map(render_timeline, timelines)))


async def explain_parked(settings: Settings, identity: str, *, as_json: bool) -> int:
    """Tell what is parked under this id; the exit status."""

    async def explain(queue: Shelf) -> int:
        found = await selected_requests(queue, settings, Selection(frozenset((identity,))))
        if not found:
            typer.echo(
                f"No parked request is called {identity!r}. `dcs-worker parked list --each` shows those that are; with "
                "--listen its event is waited for; an event that was received is read from standard input.",
                err=True,
            )
            return EXIT_FAILED
        print_timelines([timeline_of_parked(request) for request in found], as_json=as_json)
        return EXIT_OK

    return await with_parked_queue(settings, explain)


async def explain_next_event(settings: Settings, identity: str, timeout: float, *, as_json: bool) -> int:
    """Tell what the next event of the request tells; the exit status."""
    try:
        async with (
            reached(brokers(settings), "dcs-worker explain") as connection,
            following(connection, settings.event_exchange) as events,
        ):
            typer.echo(f"Listening for the event of {identity!r} ...", err=True)
            timeline = await _wait_for_event(events, identity, timeout)
    except (UnreachableError, FollowError) as error:
        typer.echo(str(error), err=True)
        return EXIT_UNAVAILABLE
    except ConfigurationError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        return EXIT_CONFIGURATION
    if timeline is None:
        sentence = f"No event of {identity!r} came within {timeout:g} s: send the request again to have it repeated."
        typer.echo(sentence, err=True)
        return EXIT_FAILED
    print_timelines([timeline], as_json=as_json)
    return EXIT_OK


async def _wait_for_event(events: Events, identity: str, timeout: float) -> RequestTimeline | None:
    """None: it did not come within so many seconds. Raises FollowError."""
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
        return None  # somebody else's
    is_ours = identity in (content.request_id, event.correlation_id)
    return RequestTimeline.from_event(content, event.headers) if is_ours else None
