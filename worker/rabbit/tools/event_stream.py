"""The senders' side, events out: followed as they come, through a queue of one's own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelInvalidStateError, ChannelNotFoundEntity

from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel

UNREAD_AT_MOST: Final = 500
"""Events that the broker hands over ahead of their reader."""


class FollowError(Exception):
    """Events cannot be followed, or no longer; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was published; `kind` is its routing key, `migration.succeeded` or `migration.failed`."""

    kind: str
    body: bytes
    headers: Mapping[str, object]
    correlation_id: str | None


class EventStream:
    """The events from now on, in the order of their arrival: `async for event in events`. Raises FollowError."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()

    def __repr__(self) -> str:
        return f"<EventStream: {self._arrived.qsize()} unread>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        message = await self._arrived.get()
        if message is None:
            self._lose()  # for whoever asks again
            raise FollowError("The connection to the broker was lost: events since then were missed.")
        await self._read(message)
        properties = message.header.properties
        headers = dict(properties.headers or {})
        return Event(message.routing_key or "", message.body, headers, properties.correlation_id)

    async def begin(self, exchange: str) -> None:
        """Bind a queue, which goes with the connection, to every event and consume it. Raises FollowError."""
        channel = self._channel
        channel.closing.add_done_callback(self._lose)
        channel.on_consumer_cancel_callbacks.add(self._lose)
        await channel.basic_qos(prefetch_count=UNREAD_AT_MOST, timeout=RPC_TIMEOUT_SECONDS)
        try:
            declared = await channel.queue_declare("", exclusive=True, auto_delete=True, timeout=RPC_TIMEOUT_SECONDS)
            queue = declared.queue or ""
            await channel.queue_bind(queue, exchange, "#", timeout=RPC_TIMEOUT_SECONDS)
        except ChannelNotFoundEntity:
            sentence = f"The exchange {exchange!r} is not there: start a worker, or `dcs-worker topology apply`."
            raise FollowError(sentence) from None
        except ChannelAccessRefused:
            sentence = f"The broker does not let this user follow the exchange {exchange!r} through a queue of its own."
            raise FollowError(sentence) from None
        await channel.basic_consume(queue, self._take, timeout=RPC_TIMEOUT_SECONDS)

    async def _take(self, message: DeliveredMessage) -> None:
        self._arrived.put_nowait(message)

    async def _read(self, message: DeliveredMessage) -> None:
        # Acknowledged only to let the broker hand over more: the queue dies with us, nothing is delivered twice.
        if message.delivery_tag is None or self._channel.is_closed:
            return
        try:
            await self._channel.basic_ack(message.delivery_tag, wait=False)
        except ChannelInvalidStateError:
            return

    def _lose(self, *_: object) -> None:
        self._arrived.put_nowait(None)


@asynccontextmanager
async def following(connection: AbstractConnection, exchange: str) -> AsyncIterator[EventStream]:
    """The events of the event exchange `exchange` that are published while the context lasts. Raises FollowError."""
    async with open_channel(connection) as channel:
        events = EventStream(channel)
        await events.begin(exchange)
        yield events
