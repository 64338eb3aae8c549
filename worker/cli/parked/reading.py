"""What every command on parked requests begins with: the shelf reached, and the stories of those that are meant."""

import time
from collections.abc import Awaitable, Callable

import typer

from worker.bootstrap.from_settings import brokers
from worker.cli.common import CONFIGURATION, UNAVAILABLE
from worker.cli.parked.selection import Selection
from worker.cli.parked.story import Story
from worker.config import ConfigurationError, Settings
from worker.rabbit.copier import ParkedError
from worker.rabbit.follower import FollowError
from worker.rabbit.parked import Parked
from worker.rabbit.reach import UnreachableError, reached
from worker.rabbit.shelf import Shelf, held


async def at_shelf(settings: Settings, work: Callable[[Shelf], Awaitable[int]]) -> int:
    """The exit status of `work` on what is parked; 69 or 78 and a sentence if it cannot be had."""
    try:
        async with (
            reached(brokers(settings), "dcs-worker parked") as connection,
            held(connection, settings.queue) as shelf,
        ):
            return await work(shelf)
    except (UnreachableError, ParkedError, FollowError) as error:
        typer.echo(str(error), err=True)
        return UNAVAILABLE
    except ConfigurationError as error:
        for problem in error.lines:
            typer.echo(problem, err=True)
        return CONFIGURATION


async def read(shelf: Shelf, settings: Settings, selection: Selection, each: Callable[[Story], None]) -> None:
    """Show every story that `selection` takes to `each`, and hold all of them. Raises ParkedError."""
    now = time.time()

    def look(parked: Parked) -> None:
        story = Story.read(parked, settings)
        if selection.takes(story, now):
            each(story)

    await shelf.read(look)


async def stories(shelf: Shelf, settings: Settings, selection: Selection) -> list[Story]:
    """The stories that `selection` takes, in the order of their parking, all held. Raises ParkedError."""
    found: list[Story] = []
    await read(shelf, settings, selection, found.append)
    return sorted(found, key=lambda story: story.parked_at or 0.0)
