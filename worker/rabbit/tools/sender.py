"""The senders' side, requests in: each one confirmed to be in a queue.

A plain channel that ends with its connection: a sender that lost its broker says so, and whoever sends the
same request again creates nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.commands import Basic

from schemas import names
from worker.rabbit.confirm_channel import ConfirmChannel
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel
from worker.rabbit.message_copy import PERSISTENT

UNCONFIRMED_AT_MOST: Final = 256
"""Publishes in flight: enough to keep the broker busy, few enough to stay flat however many are to be sent."""
CONFIRM_DEADLINE: Final = 30.0

_DECLARE: Final = "Start a worker, or declare it with `dcs-worker topology apply`."
_LOST: Final = "The connection to the broker was lost before it confirmed every request; sending again is safe."


class SendError(Exception):
    """The broker did not take a request, as far as is known; the text is for a person and says what would help."""


class Sender:
    """Publishes request bodies to one exchange; not to be used again once a publish has failed."""

    def __init__(self, channel: Channel, exchange: str) -> None:
        self._channel = channel
        self._confirms = ConfirmChannel(channel, timeout_seconds=CONFIRM_DEADLINE)
        self._exchange = exchange

    def __repr__(self) -> str:
        return f"<Sender to {self._exchange}: {'closed' if self._channel.is_closed else 'open'}>"

    async def begin(self) -> None:
        """Make sure that the exchange is there. Raises SendError."""
        try:
            await self._channel.exchange_declare(self._exchange, passive=True, timeout=RPC_TIMEOUT_SECONDS)
        except Exception as error:
            raise SendError(self._why(error)) from error

    async def send(
        self,
        body: bytes,
        *,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Publish one request; when it returns, a queue has it safely. Raises SendError."""
        properties = Basic.Properties(
            content_type=names.JSON,
            headers=dict(headers or {}),  # type: ignore[arg-type]  # whatever AMQP can carry
            delivery_mode=PERSISTENT,
            correlation_id=correlation_id,
            reply_to=reply_to,
            # Two messages with one id would wait for each other, so it is never one that the caller chose.
            message_id=uuid4().hex,
        )
        try:
            await self._confirms.publish(
                body, properties, exchange=self._exchange, routing_key=names.REQUEST_KEY, mandatory=True
            )
        except Exception as error:
            raise SendError(self._why(error)) from error

    @asynccontextmanager
    async def batch(self, confirmed: Callable[[int], None] = lambda _: None) -> AsyncIterator["Batch"]:
        """Publish many, with at most UNCONFIRMED_AT_MOST in flight; left once every one is confirmed.

        `confirmed` is told how many are so far. Raises the first SendError: then nothing is known of the last
        UNCONFIRMED_AT_MOST.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                yield Batch(self, tasks, confirmed)
        except BaseExceptionGroup as errors:
            raise _first(errors.subgroup(SendError) or errors) from None

    def _why(self, error: Exception) -> str:
        match error:
            case PublishError():
                return f"No queue takes requests from the exchange {self._exchange!r}. {_DECLARE}"
            case DeliveryError():
                return "The broker refused a request: the queue does not take any at the moment."
            case ChannelNotFoundEntity():
                return f"The exchange {self._exchange!r} is not there. {_DECLARE}"
            case ChannelAccessRefused():
                return f"The broker does not let this user publish to the exchange {self._exchange!r}."
            case TimeoutError():
                return (
                    f"The broker did not confirm a request within {CONFIRM_DEADLINE:g} s: "
                    "a memory or disk alarm may keep it from taking any."
                )
            case _:
                return f"{_LOST} ({type(error).__name__}: {error})"[:300]


class Batch:
    """Many publishes at once, all of which are confirmed when the batch ends."""

    def __init__(self, sender: Sender, tasks: asyncio.TaskGroup, confirmed: Callable[[int], None]) -> None:
        self._sender = sender
        self._tasks = tasks
        self._confirmed = confirmed
        self._slots = asyncio.Semaphore(UNCONFIRMED_AT_MOST)
        self._count = 0

    def __repr__(self) -> str:
        return f"<Batch: {self._count} confirmed>"

    async def put(
        self, body: bytes, *, correlation_id: str | None = None, headers: Mapping[str, object] | None = None
    ) -> None:
        """Publish one request as soon as there are few enough in flight; returns before it is confirmed."""
        await self._slots.acquire()
        self._tasks.create_task(self._send(body, correlation_id, headers))

    async def _send(self, body: bytes, correlation_id: str | None, headers: Mapping[str, object] | None) -> None:
        await self._sender.send(body, correlation_id=correlation_id, headers=headers)
        self._slots.release()
        self._count += 1
        self._confirmed(self._count)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


@asynccontextmanager
async def sending(connection: AbstractConnection, exchange: str) -> AsyncIterator[Sender]:
    """A sender to the request exchange `exchange` for as long as the context lasts. Raises SendError."""
    async with open_channel(connection, confirms=True) as channel:
        sender = Sender(channel, exchange)
        await sender.begin()
        yield sender
