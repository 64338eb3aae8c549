"""A channel with publisher confirms: the one way in which messages are published.

aiormq tells returned messages apart by `message_id` alone: of two that are under way with one id it would confirm
the one that came back. So two with one id are never under way at once. A message without an id gets a random one
from aiormq, which writes it into the properties.
"""

import asyncio
from contextlib import nullcontext
from weakref import WeakValueDictionary

from aiormq import Channel
from pamqp.commands import Basic

from worker.rabbit.connection import connection_loss_as_error


class ConfirmChannel:
    """Publishes on `channel`, which raises on returned messages, and waits for each confirm.

    After a TimeoutError nothing is known of the message: use another channel then.
    """

    def __init__(self, channel: Channel, *, timeout_seconds: float) -> None:
        self._channel = channel
        self._timeout_seconds = timeout_seconds
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<ConfirmChannel: {'closed' if self.is_closed else 'open'}>"

    @property
    def is_closed(self) -> bool:
        """Whether the channel is gone."""
        return self._channel.is_closed

    async def publish(
        self,
        body: bytes,
        properties: Basic.Properties,
        *,
        exchange: str = "",
        routing_key: str,
        mandatory: bool = False,
    ) -> None:
        """Publish one message and wait until the broker has it safely.

        Raises PublishError for a mandatory message that no queue takes, DeliveryError for one that a queue refuses,
        TimeoutError without a confirm in time, ConnectionLostError, and what else aiormq raises.
        """
        with connection_loss_as_error():
            async with asyncio.timeout(self._timeout_seconds), self._alone(properties.message_id):
                await self._channel.basic_publish(
                    body,
                    exchange=exchange,
                    routing_key=routing_key,
                    properties=properties,
                    mandatory=mandatory,
                    wait=False,
                )

    def _alone(self, message_id: str | None) -> asyncio.Lock | nullcontext[None]:
        return self._under_way.setdefault(message_id, asyncio.Lock()) if message_id else nullcontext()
