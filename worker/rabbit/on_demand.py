"""Channel on a connection for special publishes: opened when a message needs it, and again after the broker closed it.

A message that makes the broker close its connection (a damaged direct reply-to address, a copy larger than a frame)
must not take other messages, or the consuming connection, with it.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from aiormq import Channel
from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.commands import Basic

from worker.policy.call_result import UnconfirmedError
from worker.rabbit.connection import Brokers, connected, connection_loss_as_error, open_channel
from worker.rabbit.failure_reasons import reason_in_words

CLOSED_ERRORS: Final = (AMQPError, ConnectionError, RuntimeError)
"""What aiormq raises for a publish whose channel or connection is closed."""

NOT_ALLOWED_ERRORS: Final = (ChannelAccessRefused, ChannelNotFoundEntity)
"""The channel is closed for a missing right or exchange, which is not the doing of one message."""


class ClosedError(UnconfirmedError):
    """The channel or connection was closed while the message was under way."""


class OnDemandConnection:
    """Channel with confirms on a connection that carries nothing else, called `name` at the broker."""

    def __init__(self, brokers: Callable[[], Brokers], name: str) -> None:
        self._brokers = brokers
        self._name = name
        self._attempt = random.randrange(len(brokers().urls))
        self._turn = asyncio.Lock()
        self._channel: Channel | None = None
        self._opened = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<OnDemandConnection {self._name}: {'closed' if self._channel is None else self._channel}>"

    async def publish(
        self, body: bytes, properties: Basic.Properties, routing_key: str, timeout_seconds: float, *, mandatory: bool
    ) -> None:
        """Publish one message to the default exchange and wait for its confirm.

        Raises ClosedError if the broker closes the channel meanwhile, DeliveryError if a queue refuses the message,
        PublishError if it is mandatory and reaches none, TimeoutError, and UnconfirmedError if no node is reached.
        """
        async with asyncio.timeout(timeout_seconds):
            try:
                channel = await self._open()
            except Exception as error:
                raise UnconfirmedError(reason_in_words(error)) from error
            try:
                with connection_loss_as_error():
                    await channel.basic_publish(
                        body, routing_key=routing_key, properties=properties, mandatory=mandatory, wait=False
                    )
            except (DeliveryError, PublishError):
                raise
            except NOT_ALLOWED_ERRORS as error:
                self._channel = None
                raise UnconfirmedError(reason_in_words(error)) from error
            except CLOSED_ERRORS as error:
                if channel is self._channel:  # aiormq may not know yet that it is closed
                    self._channel = None
                raise ClosedError(reason_in_words(error)) from error

    async def aclose(self) -> None:
        """Close the connection; the next publish opens another one."""
        opened, self._opened, self._channel = self._opened, AsyncExitStack(), None
        await opened.aclose()

    async def _open(self) -> Channel:
        async with self._turn:
            if self._channel is None or self._channel.is_closed:
                await self.aclose()
                self._attempt += 1
                with connection_loss_as_error():
                    async with AsyncExitStack() as opened:
                        connected_to = connected(self._brokers(), self._attempt, self._name)
                        connection = await opened.enter_async_context(connected_to)
                        channel = await opened.enter_async_context(open_channel(connection, confirms=True))
                        self._opened, self._channel = opened.pop_all(), channel
                return channel
            return self._channel
