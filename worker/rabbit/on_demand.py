"""Connection for special publishes: opened when a message needs it, and again after the broker closed it.

A message that makes the broker close its connection (a damaged direct reply-to address, a copy larger than a frame)
must not take other messages, or the consuming connection, with it. A queue that does not confirm blocks the channel of
its message, not the connection: so each channel carries one message at a time.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Final, cast

from aiormq import Channel
from aiormq.abc import AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelClosed,
    ChannelNotFoundEntity,
    DeliveryError,
    PublishError,
)
from pamqp.commands import Basic

from worker.policy.call_result import UnconfirmedError
from worker.rabbit.connection import CLOSE_TIMEOUT_SECONDS, Brokers, connected, connection_loss_as_error
from worker.rabbit.failure_reasons import reason_in_words

CLOSED_ERRORS: Final = (AMQPError, ConnectionError, RuntimeError)
"""What aiormq raises for a publish whose channel or connection is closed."""

NOT_ALLOWED_ERRORS: Final = (ChannelAccessRefused, ChannelNotFoundEntity)
"""The channel is closed for a missing right or exchange, which is not the doing of one message."""

OPEN_TIMEOUT_SECONDS: Final = 5.0
"""For the connection, and for each channel."""


class ClosedError(UnconfirmedError):
    """The channel or connection was closed while the message was under way."""


class OnDemandConnection:
    """Connection whose channels have confirms and carry nothing else, called `name` at the broker."""

    def __init__(self, brokers: Callable[[], Brokers], name: str) -> None:
        self._brokers = brokers
        self._name = name
        self._attempt = random.randrange(len(brokers().urls))
        self._turn = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._opened = AsyncExitStack()
        self._idle: list[Channel] = []

    def __repr__(self) -> str:
        return f"<OnDemandConnection {self._name}: {'closed' if self._connection is None else self._connection}>"

    @property
    def channels(self) -> int:
        """Open on the present connection; those that wait for a confirm are never used again."""
        return len(self._connection.channels) if self._connection is not None else 0

    async def publish(
        self, body: bytes, properties: Basic.Properties, routing_key: str, timeout_seconds: float, *, mandatory: bool
    ) -> None:
        """Publish one message to the default exchange and wait for its confirm.

        Raises ClosedError if the broker closes the channel meanwhile, DeliveryError if a queue refuses the message,
        PublishError if it is mandatory and reaches none, TimeoutError if the broker answers, but does not confirm, and
        UnconfirmedError if no node answers.
        """
        channel = await self._take_channel()
        try:
            with connection_loss_as_error():
                async with asyncio.timeout(timeout_seconds):
                    await channel.basic_publish(
                        body, routing_key=routing_key, properties=properties, mandatory=mandatory, wait=False
                    )
        except TimeoutError:
            spare = await self._open_channel(channel.connection)
            if channel.connection is self._connection:
                self._idle.append(spare)
            raise
        except (DeliveryError, PublishError):
            await _close(channel)  # RabbitMQ 3.10 would go on refusing on it what the queue takes by then
            raise
        except NOT_ALLOWED_ERRORS as error:
            raise UnconfirmedError(reason_in_words(error)) from error
        except CLOSED_ERRORS as error:
            if not isinstance(error, ChannelClosed):  # aiormq may not know yet that the connection is closed
                self._abandon(channel.connection)
            raise ClosedError(reason_in_words(error)) from error
        if channel.connection is self._connection:
            self._idle.append(channel)

    async def aclose(self) -> None:
        """Close the connection; the next publish opens another one."""
        opened, self._opened, self._connection = self._opened, AsyncExitStack(), None
        self._idle = []
        await opened.aclose()

    async def _take_channel(self) -> Channel:
        async with self._turn:
            connection = self._connection
            if connection is None or connection.is_closed:
                connection = await self._connect()
        while self._idle:
            channel = self._idle.pop()
            if not channel.is_closed:
                return channel
        return await self._open_channel(connection)

    async def _connect(self) -> AbstractConnection:
        await self.aclose()
        self._attempt += 1
        try:
            with connection_loss_as_error():
                async with asyncio.timeout(OPEN_TIMEOUT_SECONDS), AsyncExitStack() as opened:
                    connected_to = connected(self._brokers(), self._attempt, self._name)
                    transport = (await opened.enter_async_context(connected_to)).transport
                    if transport is None:
                        raise ConnectionError("the connection is closed")
                    self._opened, self._connection = opened.pop_all(), transport.connection
                    return self._connection
        except Exception as error:
            raise UnconfirmedError(reason_in_words(error)) from error

    async def _open_channel(self, connection: AbstractConnection) -> Channel:
        """Open a channel; a connection on which that fails, as on a frozen node, is used no more."""
        try:
            with connection_loss_as_error():
                async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                    return cast(Channel, await connection.channel(publisher_confirms=True, on_return_raises=True))
        except Exception as error:
            self._abandon(connection)
            raise UnconfirmedError(reason_in_words(error)) from error

    def _abandon(self, connection: AbstractConnection) -> None:
        if connection is self._connection:
            self._connection = None


async def _close(channel: Channel) -> None:
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await channel.close()
