"""Replies: events sent to the queue that a request names in `reply_to`, on connections that carry nothing else.

A `reply_to` that the broker does not accept costs its own answer and nothing else:
- A queue that does not confirm (its node is frozen) holds up neither another reply, since each has a channel for
  itself, nor its request: what takes long goes on in the background.
- RabbitMQ closes the connection for some direct reply-to addresses (those of another cluster). So the first reply to
  a direct address is published alone on its connection. Should another one close the shared connection, the replies
  under way on it are published again, each alone, so that the next closing has one possible cause.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from aiormq.exceptions import ConnectionInternalError
from pamqp.commands import Basic

from schemas import names
from worker.policy.call_result import UnconfirmedError
from worker.rabbit.on_demand import ClosedError, OnDemandConnection

REPLY_TIMEOUT_SECONDS: Final = 5.0
REPLY_TRIES: Final = 3
REPLY_PAUSE_SECONDS: Final = 0.5
"""After a try that the broker refused, or for which no connection could be opened."""
MAX_REPLY_SECONDS: Final = REPLY_TRIES * (REPLY_TIMEOUT_SECONDS + REPLY_PAUSE_SECONDS)
"""For all tries of a reply, with waits for a connection: a broker may accept one and then not answer on it."""
HOLD_SECONDS: Final = 0.5
"""A reply that takes longer no longer holds up the acknowledgement of its request."""
MAX_IN_BACKGROUND: Final = 512
CONNECTIONS_ALONE: Final = 4
MAX_CHANNELS: Final = 256
"""Of the shared connection; then another one takes its place, for channels that wait for a confirm are lost."""
MAX_REMEMBERED_ADDRESSES: Final = 1024
"""Of each kind."""
FROZEN_ADDRESS_SECONDS: Final = 10.0
"""No reply is tried to an address that did not answer, for this time: short, since the broker may be at fault."""
CLOSE_SECONDS: Final = 2.0
"""For the replies under way when the worker ends."""


class ReplyPublisher:
    """Publishes replies on connections that `connect` makes; `on_refused` receives the event id of one that failed.

    Without `mandatory`: direct reply-to returns such a message although it delivers it.
    """

    def __init__(self, connect: Callable[[], OnDemandConnection], on_refused: Callable[[str], None]) -> None:
        self._connect = connect
        self._on_refused = on_refused
        self._shared = connect()
        self._alone = asyncio.LifoQueue[OnDemandConnection]()  # with little traffic one is enough
        for _ in range(CONNECTIONS_ALONE):
            self._alone.put_nowait(connect())
        self._frozen: dict[str, float] = {}
        self._accepted: dict[str, float] = {}
        """Addresses that took a reply that was alone."""
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<ReplyPublisher: {len(self._tasks)} under way, {self._shared!r}, {len(self._frozen)} frozen addresses>"

    async def publish(self, body: bytes, properties: Basic.Properties, reply_to: str) -> None:
        """Publish one reply; return once that has ended, or goes on in the background. Nothing raises."""
        task = self._start(self._publish(body, properties, reply_to))
        has_room = len(self._tasks) <= MAX_IN_BACKGROUND
        await asyncio.wait((task,), timeout=HOLD_SECONDS if has_room else None)

    async def aclose(self) -> None:
        """Let the replies under way end, for a moment, and close the connections."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._shared.aclose()
        while not self._alone.empty():
            await self._alone.get_nowait().aclose()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _publish(self, body: bytes, properties: Basic.Properties, reply_to: str) -> None:
        try:
            async with asyncio.timeout(MAX_REPLY_SECONDS):
                is_published = await self._is_published(body, properties, reply_to)
        except TimeoutError:
            is_published = False
        if not is_published:
            self._on_refused(properties.message_id or "")

    async def _is_published(self, body: bytes, properties: Basic.Properties, reply_to: str) -> bool:
        is_alone = reply_to.startswith(f"{names.DIRECT_REPLY_TO}.") and reply_to not in self._accepted
        tries = 0
        while tries < REPLY_TRIES and self._frozen.get(reply_to, 0.0) <= time.monotonic():
            tries += 1
            try:
                await (self._publish_alone if is_alone else self._publish_shared)(body, properties, reply_to)
            except TimeoutError:
                _remember(self._frozen, reply_to, time.monotonic() + FROZEN_ADDRESS_SECONDS)
            except Exception as error:  # noqa: BLE001 - refused, no node reached, or unexpected: it costs this reply only
                if not is_alone and isinstance(error, UnconfirmedError):  # another reply may have closed the connection
                    is_alone, tries = True, tries - 1
                    self._accepted.pop(reply_to, None)
                elif isinstance(error.__cause__, ConnectionInternalError):  # the broker's word on this very address
                    break
                elif not isinstance(error, ClosedError):
                    await asyncio.sleep(REPLY_PAUSE_SECONDS)
            else:
                return True
        return False

    async def _publish_shared(self, body: bytes, properties: Basic.Properties, reply_to: str) -> None:
        if self._shared.channels >= MAX_CHANNELS:
            self._start(_close_later(self._shared))
            self._shared = self._connect()
        await self._shared.publish(body, properties, reply_to, REPLY_TIMEOUT_SECONDS, mandatory=False)

    async def _publish_alone(self, body: bytes, properties: Basic.Properties, reply_to: str) -> None:
        """Publish one reply while no other one is published on its connection."""
        connection = await self._alone.get()
        try:
            await connection.publish(body, properties, reply_to, REPLY_TIMEOUT_SECONDS, mandatory=False)
            _remember(self._accepted, reply_to, math.inf)
        finally:
            self._alone.put_nowait(connection)


def _remember(addresses: dict[str, float], reply_to: str, until: float) -> None:
    addresses.pop(reply_to, None)
    if len(addresses) >= MAX_REMEMBERED_ADDRESSES:
        addresses.pop(next(iter(addresses)))
    addresses[reply_to] = until


async def _close_later(connection: OnDemandConnection) -> None:
    """Close a connection once the replies under way on it were confirmed or abandoned."""
    try:
        await asyncio.sleep(REPLY_TIMEOUT_SECONDS + REPLY_PAUSE_SECONDS)
    finally:  # the worker may end meanwhile
        await connection.aclose()
