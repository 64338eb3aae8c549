"""Frames out: acknowledgements and publishes of one turn of the event loop in one piece, where aiormq writes each."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from aiormq import Channel
from aiormq.abc import ChannelFrame
from pamqp import frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.rabbit.frames import END, HEAD

_ACK: Final = Struct(">BHIHHQBB")


class Outlet:
    """Frames out: those of one turn of the event loop in one piece. `run` writes them for as long as it is awaited."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._parts: list[bytes] = []
        self._has_parts = asyncio.Event()

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery."""
        self._parts.append(_ACK.pack(1, self._channel.number, 13, 60, 80, tag, 0, 0xCE))
        self._has_parts.set()

    async def run(self) -> None:
        """Write what is sent."""
        while True:
            await self._has_parts.wait()
            await self.flush()

    async def flush(self) -> None:
        """Hand everything to the connection."""
        self._has_parts.clear()
        parts, self._parts = self._parts, []
        if parts:
            await self._channel.write_queue.put(ChannelFrame(b"".join(parts), should_close=False))


class Confirmed:
    """Messages out, each with the future of its confirm; in batches as those of an outlet."""

    def __init__(self, channel: Channel, deadline: float) -> None:
        self._channel = channel
        self._deadline = deadline
        self._sent: list[tuple[asyncio.Future[Any], bytes]] = []
        self._has_sent = asyncio.Event()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()

    def publish(self, exchange: str, key: str, properties: Basic.Properties, body: bytes) -> asyncio.Future[Any]:
        """Send a message. The future ends with the confirm, with DeliveryError, TimeoutError or ConnectionError."""
        confirm: asyncio.Future[Any] = self._channel.loop.create_future()
        self._sent.append((confirm, self._written(exchange, key, properties, body)))
        self._has_sent.set()
        waiting = self._waiting
        waiting.append((confirm, self._channel.loop.time() + self._deadline))
        while waiting[0][0].done():
            waiting.popleft()
        return confirm

    def expire(self) -> None:
        """End what waits past its deadline; to be called again and again."""
        now, waiting = self._channel.loop.time(), self._waiting
        while waiting and (waiting[0][0].done() or waiting[0][1] < now):
            _fail(waiting.popleft()[0], TimeoutError())

    def close(self) -> None:
        """End all that waits: the channel is gone."""
        while self._waiting:
            _fail(self._waiting.popleft()[0], ConnectionError("the channel is gone"))

    def _written(self, exchange: str, key: str, properties: Basic.Properties, body: bytes) -> bytes:
        number, largest = self._channel.number, self._channel.max_content_size
        header = ContentHeader(body_size=len(body), properties=properties).marshal()
        parts = [_method(number, exchange, key), HEAD.pack(2, number, len(header)), header, END]
        for start in range(0, len(body), largest):
            part = body[start : start + largest]
            parts += (HEAD.pack(3, number, len(part)), part, END)
        return b"".join(parts)

    async def run(self) -> None:
        """Write what is sent."""
        channel = self._channel
        while True:
            await self._has_sent.wait()
            async with channel.lock:  # the broker counts messages as they come: theirs and those of `basic_publish`
                self._has_sent.clear()
                sent, self._sent = self._sent, []
                parts = []
                for confirm, message in sent:
                    if not confirm.done():  # else nobody waits for it any more
                        channel.delivery_tag += 1
                        channel.confirmations[channel.delivery_tag] = confirm
                        parts.append(message)
                await channel.write_queue.put(ChannelFrame(b"".join(parts), should_close=False))


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` goes on in a task meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _fail(confirm: asyncio.Future[Any], error: Exception) -> None:
    if not confirm.done():
        confirm.set_exception(error)


@lru_cache(maxsize=64)
def _method(number: int, exchange: str, key: str) -> bytes:
    return frame.marshal(Basic.Publish(exchange=exchange, routing_key=key), number)
