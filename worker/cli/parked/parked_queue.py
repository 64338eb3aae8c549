"""What every command on parked requests begins with: the shelf reached, and the stories of those that are meant."""

import time
from collections.abc import Awaitable, Callable

import typer

from worker.bootstrap.from_settings import brokers
from worker.cli.common import EXIT_CONFIGURATION, EXIT_UNAVAILABLE
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.selection import Selection
from worker.config import ConfigurationError, Settings
from worker.rabbit.copier import ParkedError
from worker.rabbit.follower import FollowError
from worker.rabbit.parked import Parked
from worker.rabbit.reach import UnreachableError, reached
from worker.rabbit.shelf import Shelf, held


async def with_parked_queue(settings: Settings, work: Callable[[Shelf], Awaitable[int]]) -> int:
    """The exit status of `work` on what is parked; 69 or 78 and a sentence if it cannot be had."""
    try:
        async with (
            reached(brokers(settings), "dcs-worker parked") as connection,
            held(connection, settings.queue) as queue,
        ):
            return await work(queue)
    except (UnreachableError, ParkedError, FollowError) as error:
        typer.echo(str(error), err=True)
        return EXIT_UNAVAILABLE
    except ConfigurationError as error:
        for problem in error.lines:
            typer.echo(problem, err=True)
        return EXIT_CONFIGURATION


async def read(
    queue: Shelf, settings: Settings, selection: Selection, on_request: Callable[[ParkedRequest], None]
) -> None:
    """Show every story that `selection` takes to `each`, and hold all of them. Raises ParkedError."""
    now = time.time()

    def on_message(parked: Parked) -> None:
        request = ParkedRequest.read(parked, settings)
        if selection.matches(request, now):
            on_request(request)

    await queue.read(on_message)


async def selected_requests(queue: Shelf, settings: Settings, selection: Selection) -> list[ParkedRequest]:
    """The stories that `selection` takes, in the order of their parking, all held. Raises ParkedError."""
    found: list[ParkedRequest] = []
    await read(queue, settings, selection, found.append)
    return sorted(found, key=lambda request: request.parked_at or 0.0)
