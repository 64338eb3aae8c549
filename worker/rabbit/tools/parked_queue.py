"""The parked queue in a person's hands: read, moved back to the requests, dropped; nothing in it is ever lost.

AMQP has no reading without taking: what is read is held by this process, and goes back with its channel, so also
when the process dies. The broker counts every such return, and RabbitMQ 4.0 and newer drop a message of a quorum
queue that was returned more than 20 times (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling):
for a parked one, without a trace. So a message that comes near that is renewed as soon as it is read:
copied to the end of the queue, confirmed, acknowledged. The copy is counted from zero, on every version.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from schemas import names
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel
from worker.rabbit.tools.copier import LOST, Copier, ParkedError
from worker.rabbit.tools.event_stream import EventStream, following
from worker.rabbit.tools.parked import ParkedMessage

RENEWED_AT_ONCE: Final = 256
PREFETCH: Final = 65_535
"""The most that one consumer can hold."""
QUIET: Final = 30.0
"""Seconds to wait for a delivery of what the broker counted."""
TURN: Final = 5.0
"""Seconds to wait for another reader to end: one that was killed is still counted for a moment."""
RETURNED: Final = 30.0
"""Seconds to wait until the broker counts again what was given back: tens of thousands take it a while."""
ASKED_EVERY: Final = 0.1


class ParkedQueue:
    """What is parked for the requests queue `queue`, for as long as it is held."""

    def __init__(self, queue: str, connection: AbstractConnection, channel: Channel, copier: Copier) -> None:
        self._requests = queue
        self._queue = names.parked_queue(queue)
        self._connection = connection
        self._channel = channel
        self._copier = copier
        self._arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
        self._held = 0
        self._is_taking = self._is_released = False

    def __repr__(self) -> str:
        return f"<ParkedQueue {self._queue}: {self._held} held>"

    async def read(self, each: Callable[[ParkedMessage], None]) -> None:
        """Hold every message that is there now, and show it to `each`. Raises ParkedError."""
        try:
            left = await self._turn()
            await self._consume(left)
        except ChannelNotFoundEntity:
            declare = "start a worker, or declare it with `dcs-worker topology apply`"
            raise ParkedError(f"The queue {self._queue!r} is not there: {declare}.") from None
        except ChannelAccessRefused:
            raise ParkedError(f"The broker does not let this user read the queue {self._queue!r}.") from None
        worn: list[ParkedMessage] = []
        while left:
            if len(worn) == RENEWED_AT_ONCE or (worn and self._arrived.empty()):
                await self._renew(worn)
                worn.clear()
            one = ParkedMessage.of(await self._next())
            if one.is_worn:
                worn.append(one)
            else:
                each(one)
                left -= 1

    async def move(self, one: ParkedMessage, headers: Mapping[str, object]) -> None:
        """Put a copy with these headers at the end of the requests queue, then take `one` away. Raises ParkedError."""
        await self._copier.copy(one.body, one.properties, headers, self._requests)
        await self.drop(one)

    async def drop(self, one: ParkedMessage) -> None:
        """Take `one` away. Raises ParkedError."""
        if self._channel.is_closed:
            raise ParkedError(LOST)
        await self._channel.basic_ack(one.tag, wait=False)
        self._held -= 1
        self._is_taking = True

    async def release(self) -> None:
        """Give everything else back, once the broker knows what was taken away. Raises ParkedError."""
        if self._is_released:
            return
        if self._channel.is_closed:
            raise ParkedError(LOST)
        self._is_released = True
        await self._flush()
        # The consumers go with their channel, not before: for as long as there is one, nobody takes what is on its
        # way back for all there is.
        await self._channel.close()
        await self._counted(self._held)

    async def _flush(self) -> None:
        """Return once the queue has taken in every acknowledgement.

        In front of a quorum queue the channel holds them back when there are many, and forgets them when it is closed:
        of 70,000 some 60 were lost so. A consumer is added through the log of the queue: once the first one is there,
        the channel has let go of what it held back, and once the second is there, that was taken in.
        """
        for _ in range(2 if self._is_taking else 0):
            await self._channel.basic_consume(self._queue, self._take, timeout=RPC_TIMEOUT_SECONDS)

    async def _counted(self, held: int) -> None:
        end = time.monotonic() + RETURNED
        async with open_channel(self._connection) as channel:
            while time.monotonic() < end:
                counted = await channel.queue_declare(self._queue, passive=True, timeout=RPC_TIMEOUT_SECONDS)
                if (counted.message_count or 0) >= held:
                    return
                await asyncio.sleep(ASKED_EVERY)

    def following(self, exchange: str) -> AbstractAsyncContextManager[EventStream]:
        """The events of what is moved: `following` on the connection of the shelf."""
        return following(self._connection, exchange)

    async def _turn(self) -> int:
        """How many messages are parked, once nobody else reads them."""
        end = time.monotonic() + TURN
        while True:
            counted = await self._channel.queue_declare(self._queue, passive=True, timeout=RPC_TIMEOUT_SECONDS)
            if not counted.consumer_count:
                return counted.message_count or 0
            if time.monotonic() > end:
                raise ParkedError("Somebody else is working with the parked requests: try again when they have ended.")
            await asyncio.sleep(ASKED_EVERY)

    async def _consume(self, count: int) -> None:
        self._channel.closing.add_done_callback(self._lose)
        self._channel.on_consumer_cancel_callbacks.add(self._lose)
        await self._channel.basic_qos(prefetch_count=PREFETCH, timeout=RPC_TIMEOUT_SECONDS)
        for _ in range(count // PREFETCH + 1):
            await self._channel.basic_consume(self._queue, self._take, timeout=RPC_TIMEOUT_SECONDS)

    async def _take(self, message: DeliveredMessage) -> None:
        self._held += 1
        self._arrived.put_nowait(message)

    async def _next(self) -> DeliveredMessage:
        try:
            async with asyncio.timeout(QUIET):
                message = await self._arrived.get()
        except TimeoutError:
            sentence = f"The broker delivered none of the parked requests that it counts for {QUIET:g} s: try again."
            raise ParkedError(sentence) from None
        if message is None:
            raise ParkedError(LOST)
        return message

    def _lose(self, *_: object) -> None:
        self._arrived.put_nowait(None)

    async def _renew(self, worn: list[ParkedMessage]) -> None:
        """Put them at the end of the queue, from where they come again."""
        done = await asyncio.gather(*(self._renewed(one) for one in worn), return_exceptions=True)
        for error in filter(None, done):
            raise error

    async def _renewed(self, one: ParkedMessage) -> None:
        kept = {name: value for name, value in one.headers.items() if name not in names.BROKER}
        await self._copier.copy(one.body, one.properties, kept, self._queue)
        await self.drop(one)


@asynccontextmanager
async def open_parked_queue(connection: AbstractConnection, queue: str) -> AsyncIterator[ParkedQueue]:
    """What is parked for the requests queue `queue`; what was read and not taken away goes back at the end."""
    async with open_channel(connection) as channel, open_channel(connection, confirms=True) as copies:
        shelf = ParkedQueue(queue, connection, channel, Copier(copies))
        yield shelf
        await shelf.release()
