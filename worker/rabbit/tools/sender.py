"""Sender of requests: each one is confirmed to be in a queue.

A plain channel that ends with its connection: a sender that lost its broker says so, and sending the same request
again creates nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from pamqp.commands import Basic

from schemas import names
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel
from worker.rabbit.publishing import PERSISTENT, ConfirmChannel
from worker.rabbit.tools.broker_access import CONFIRM_TIMEOUT_SECONDS, BrokerError, ask, refusal
from worker.rabbit.tools.event_stream import EventStream

MAX_UNCONFIRMED_REQUESTS: Final = 256
"""Publishes in flight: enough to keep the broker busy, few enough to stay flat however many are to be sent."""
_LOST: Final = "The connection to the broker was lost before it confirmed every request; sending again is safe."


class Sender:
    """Publishes request bodies to one exchange; not to be used again once a publish has failed."""

    def __init__(self, channel: Channel, exchange: str) -> None:
        self._channel = channel
        self._confirms = ConfirmChannel(channel, timeout_seconds=CONFIRM_TIMEOUT_SECONDS)
        self._exchange = exchange
        self._reply_to: str | None = None

    def __repr__(self) -> str:
        return f"<Sender to {self._exchange}: {self._confirms!r}>"

    async def replies(self) -> EventStream:
        """The answers to requests that are sent from now on: a right to read is not needed."""
        events = EventStream(self._channel)
        await events.start_replies()
        self._reply_to = names.DIRECT_REPLY_TO
        return events

    async def send(self, body: bytes, *, correlation_id: str | None = None, reply_to: str | None = None) -> None:
        """Publish one request; when it returns, a queue has it safely. Raises BrokerError."""
        properties = Basic.Properties(
            content_type=names.JSON,
            delivery_mode=PERSISTENT,
            timestamp=datetime.now(UTC),
            correlation_id=correlation_id,
            reply_to=reply_to or self._reply_to,
            # Two messages with one id would wait for each other, so it is never one that the caller chose.
            message_id=uuid4().hex,
        )
        try:
            await self._confirms.publish(
                body, properties, exchange=self._exchange, routing_key=names.REQUEST_KEY, mandatory=True
            )
        except Exception as error:
            raise _refusal(error, self._exchange) from error

    @asynccontextmanager
    async def batch(self, on_confirmed: Callable[[int], None] = lambda _: None) -> AsyncIterator["Batch"]:
        """Publish many, with at most MAX_UNCONFIRMED_REQUESTS in flight; left once every one is confirmed.

        `on_confirmed` gets how many are so far. Raises the first BrokerError: then nothing is known of the last
        MAX_UNCONFIRMED_REQUESTS.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                yield Batch(self, tasks, on_confirmed)
        except BaseExceptionGroup as errors:
            raise _first(errors.subgroup(BrokerError) or errors) from None


class Batch:
    """Many publishes at once, all of which are confirmed when the batch ends."""

    def __init__(self, sender: Sender, tasks: asyncio.TaskGroup, on_confirmed: Callable[[int], None]) -> None:
        self._sender = sender
        self._tasks = tasks
        self._on_confirmed = on_confirmed
        self._slots = asyncio.Semaphore(MAX_UNCONFIRMED_REQUESTS)
        self._confirmed = 0

    async def put(self, body: bytes, *, correlation_id: str | None = None) -> None:
        """Publish one request as soon as there are few enough in flight; returns before it is confirmed."""
        await self._slots.acquire()
        self._tasks.create_task(self._send(body, correlation_id))

    async def _send(self, body: bytes, correlation_id: str | None) -> None:
        await self._sender.send(body, correlation_id=correlation_id)
        self._slots.release()
        self._confirmed += 1
        self._on_confirmed(self._confirmed)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _refusal(error: Exception, exchange: str) -> BrokerError:
    return refusal(error, "publish to", f"exchange {exchange!r}", _LOST)


@asynccontextmanager
async def open_sender(connection: AbstractConnection, exchange: str) -> AsyncIterator[Sender]:
    """A sender to the existing exchange `exchange` for as long as the context lasts. Raises BrokerError."""
    async with open_channel(connection, confirms=True) as channel:
        try:
            await channel.exchange_declare(exchange, passive=True, timeout=RPC_TIMEOUT_SECONDS)
        except Exception as error:
            raise _refusal(error, exchange) from error
        yield Sender(channel, exchange)


async def count_consumers(connection: AbstractConnection, queue: str) -> int | None:
    """Number of consumers of a queue; None if the broker does not say."""
    answer = await ask(connection, lambda channel: channel.queue_declare(queue, passive=True))
    return None if isinstance(answer, Exception) else answer.consumer_count
