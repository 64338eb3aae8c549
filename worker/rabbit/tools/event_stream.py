"""Stream of the worker's events: those that are published, through an exclusive queue, or the replies to a sender."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelInvalidStateError, ChannelNotFoundEntity

from schemas import names
from schemas.event import FAILED_KEY, SUCCEEDED_KEY
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel
from worker.rabbit.tools.broker_access import BrokerError, refusal

MAX_UNREAD_EVENTS: Final = 500
"""Events that the broker hands over ahead of their reader."""
_LOST: Final = "The connection to the broker was lost: events since then were missed."


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was published; `kind` is its routing key, `migration.succeeded` or `migration.failed`."""

    kind: str
    body: bytes
    headers: Mapping[str, object]
    correlation_id: str | None


FINAL_KEYS: Final = (SUCCEEDED_KEY, FAILED_KEY)
"""Of the events that say how a request ended."""


class EventStream:
    """The events from now on, in the order of their arrival: `async for event in events`. Raises BrokerError."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._is_acknowledged = True
        self._arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
        channel.closing.add_done_callback(self._on_lost)
        channel.on_consumer_cancel_callbacks.add(self._on_lost)

    def __repr__(self) -> str:
        return f"<EventStream: {self._arrived.qsize()} unread>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        message = await self._arrived.get()
        if message is None:
            self._on_lost()  # for the next call
            raise BrokerError(_LOST)
        if self._is_acknowledged and message.delivery_tag is not None and not self._channel.is_closed:
            # Only to let the broker hand over more: the queue dies with its connection, nothing is delivered twice.
            with suppress(ChannelInvalidStateError):
                await self._channel.basic_ack(message.delivery_tag, wait=False)
        properties = message.header.properties
        headers = dict(properties.headers or {})
        return Event(message.routing_key or "", message.body, headers, properties.correlation_id)

    async def _on_message(self, message: DeliveredMessage) -> None:
        self._arrived.put_nowait(message)

    def _on_lost(self, *_: object) -> None:
        self._arrived.put_nowait(None)

    async def start(self, exchange: str, keys: Sequence[str]) -> None:
        """Bind a queue, which goes with the connection, to events and consume it. Raises BrokerError."""
        channel = self._channel
        await channel.basic_qos(prefetch_count=MAX_UNREAD_EVENTS, timeout=RPC_TIMEOUT_SECONDS)
        try:
            declared = await channel.queue_declare("", exclusive=True, auto_delete=True, timeout=RPC_TIMEOUT_SECONDS)
            queue = declared.queue or ""
            for key in keys:
                await channel.queue_bind(queue, exchange, key, timeout=RPC_TIMEOUT_SECONDS)
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            raise refusal(error, "bind a queue to", f"exchange {exchange!r}", _LOST) from None
        await channel.basic_consume(queue, self._on_message, timeout=RPC_TIMEOUT_SECONDS)

    async def start_replies(self) -> None:
        """Consume the answers to requests that this channel publishes with `reply_to` DIRECT_REPLY_TO."""
        self._is_acknowledged = False
        await self._channel.basic_consume(
            names.DIRECT_REPLY_TO, self._on_message, no_ack=True, timeout=RPC_TIMEOUT_SECONDS
        )


@asynccontextmanager
async def open_event_stream(
    connection: AbstractConnection, exchange: str, keys: Sequence[str] = FINAL_KEYS
) -> AsyncIterator[EventStream]:
    """The events of the exchange `exchange` that are published while the context lasts. Raises BrokerError."""
    async with open_channel(connection) as channel:
        events = EventStream(channel)
        await events.start(exchange, keys)
        yield events
