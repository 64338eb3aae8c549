"""Writer of the acknowledgements of one channel, a few in each turn of the event loop.

aiormq's queue of frames to be written holds ten. When the broker closes a channel of the connection (a refused lock)
and the queue is full at that moment, aiormq drops its answer; the broker then takes the next channel of that number
for a second one and closes the connection: "second 'channel.open' seen". And a task that waits for room in the queue
waits for ever once the connection is lost. So acknowledgements, which come in bursts, never fill the queue, and only
the task of this writer waits for it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

FRAMES_PER_TURN: Final = 4
"""Of the ten: the rest is for questions, of which each channel has one at a time, and heartbeats."""


class AckChannel(Protocol):
    """The methods of an aiormq channel that are used here."""

    async def basic_ack(self, delivery_tag: int, multiple: bool = ..., wait: bool = ...) -> None:
        """Acknowledge a delivery."""
        ...

    async def basic_reject(self, delivery_tag: int, *, requeue: bool = ..., wait: bool = ...) -> None:
        """Return a delivery to its queue."""
        ...


class AckWriter:
    """Takes acknowledgements at any time; writes them while `running`."""

    def __init__(self, channel: AckChannel) -> None:
        self._channel = channel
        self._waiting: deque[Callable[[], Awaitable[None]]] = deque()
        self._has_some = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __repr__(self) -> str:
        return f"<AckWriter: {len(self._waiting)} waiting>"

    def ack(self, tag: int) -> None:
        """Acknowledge the delivery `tag`."""
        self._put(lambda: self._channel.basic_ack(tag, wait=False))

    def reject(self, tag: int) -> None:
        """Return the delivery `tag` to its queue."""
        self._put(lambda: self._channel.basic_reject(tag, requeue=True, wait=False))

    async def flush(self) -> None:
        """Wait until aiormq has everything; what is asked on the channel then comes behind it."""
        await self._is_empty.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write for as long as the context lasts."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _put(self, write: Callable[[], Awaitable[None]]) -> None:
        self._waiting.append(write)
        self._is_empty.clear()
        self._has_some.set()

    async def _run(self) -> None:
        while True:
            await self._has_some.wait()
            for _ in range(min(FRAMES_PER_TURN, len(self._waiting))):
                await self._waiting.popleft()()
            if not self._waiting:
                self._has_some.clear()
                self._is_empty.set()
            await asyncio.sleep(0)  # aiormq writes now
