"""Where tales come from on the broker, and how they are shown."""

import asyncio
import json
from collections.abc import Sequence

import typer

from schemas.client import read_event
from worker.bootstrap.from_settings import brokers
from worker.cli.common import CONFIGURATION, DONE, FAILED, UNAVAILABLE
from worker.cli.explaining.parked import of_story
from worker.cli.explaining.tale import Tale
from worker.cli.explaining.timeline import told
from worker.cli.parked.reading import at_shelf, stories
from worker.cli.parked.selection import Selection
from worker.config import ConfigurationError, Settings
from worker.rabbit.follower import Event, Events, FollowError, following
from worker.rabbit.reach import UnreachableError, reached
from worker.rabbit.shelf import Shelf


def show(tales: Sequence[Tale], *, as_json: bool) -> None:
    """Print them."""
    if as_json:
        typer.echo(json.dumps([tale.as_json() for tale in tales], indent=2))
    else:
        typer.echo("\n\n".join(map(told, tales)))


async def parked(settings: Settings, identity: str, *, as_json: bool) -> int:
    """Tell what is parked under this id; the exit status."""

    async def tell(shelf: Shelf) -> int:
        found = await stories(shelf, settings, Selection(frozenset((identity,))))
        if not found:
            typer.echo(
                f"No parked request is called {identity!r}. `dcs-worker parked list --each` shows those that are; with "
                "--listen its event is waited for; an event that was received is read from standard input.",
                err=True,
            )
            return FAILED
        show([of_story(story) for story in found], as_json=as_json)
        return DONE

    return await at_shelf(settings, tell)


async def heard(settings: Settings, identity: str, timeout: float, *, as_json: bool) -> int:
    """Tell what the next event of the request tells; the exit status."""
    try:
        async with (
            reached(brokers(settings), "dcs-worker explain") as connection,
            following(connection, settings.event_exchange) as events,
        ):
            typer.echo(f"Listening for the event of {identity!r} ...", err=True)
            tale = await _next(events, identity, timeout)
    except (UnreachableError, FollowError) as error:
        typer.echo(str(error), err=True)
        return UNAVAILABLE
    except ConfigurationError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        return CONFIGURATION
    if tale is None:
        sentence = f"No event of {identity!r} came within {timeout:g} s: send the request again to have it repeated."
        typer.echo(sentence, err=True)
        return FAILED
    show([tale], as_json=as_json)
    return DONE


async def _next(events: Events, identity: str, timeout: float) -> Tale | None:
    """None: it did not come within so many seconds. Raises FollowError."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                if (tale := _tale(await anext(events), identity)) is not None:
                    return tale
    except TimeoutError:
        return None


def _tale(event: Event, identity: str) -> Tale | None:
    try:
        content = read_event(event.body)
    except ValueError:
        return None  # somebody else's
    is_meant = identity in (content.request_id, event.correlation_id)
    return Tale.of_event(content, event.headers) if is_meant else None
