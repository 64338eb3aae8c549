"""Access of the `parked` commands to the parked queue: open it and read the selected requests.

Short, because every command below `parked` shares it and no command needs it alone.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from worker.bootstrap.components import brokers
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.selection import Selection
from worker.config import Settings
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.tools.parked_queue import ParkedMessage, ParkedQueue, open_parked_queue

NO_MATCH: Final = "No parked request matches."


async def with_parked_queue(settings: Settings, work: Callable[[ParkedQueue], Awaitable[int]]) -> int:
    """Run `work` on the open parked queue; its exit status.

    Raises BrokerError and ConfigurationError.
    """
    async with (
        open_connection(brokers(settings), "dcs-worker parked") as connection,
        open_parked_queue(connection, settings.queue) as queue,
    ):
        return await work(queue)


async def read(
    queue: ParkedQueue, settings: Settings, selection: Selection, on_request: Callable[[ParkedRequest], None]
) -> None:
    """Call `on_request` for each selected request; all messages stay unacknowledged. Raises BrokerError."""
    now = time.time()

    def on_message(parked: ParkedMessage) -> None:
        request = ParkedRequest.read(parked, settings)
        if selection.matches(request, now):
            on_request(request)

    await queue.read(on_message)


async def selected_requests(queue: ParkedQueue, settings: Settings, selection: Selection) -> list[ParkedRequest]:
    """The selected requests, oldest first; all messages stay unacknowledged. Raises BrokerError."""
    found: list[ParkedRequest] = []
    await read(queue, settings, selection, found.append)
    return sorted(found, key=lambda request: request.parked_at or 0.0)
