"""A delivery as the flow sees it: one message, and the channel that it came by."""

from collections.abc import Callable, Mapping
from typing import Final

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from worker.policy.call_result import StaleDeliveryError
from worker.rabbit.channel_health import ChannelHealth

_NONE: Final[Mapping[str, object]] = {}


class RabbitDelivery:
    """One message, bound to the channel that it came by. `settled` is called once it is answered."""

    __slots__ = ("_channel_health", "_settled", "_tag", "body", "headers", "properties", "redelivered")

    def __init__(self, message: DeliveredMessage, channel_health: ChannelHealth, settled: Callable[[], None]) -> None:
        deliver, properties = message.delivery, message.header.properties
        assert isinstance(deliver, Basic.Deliver)
        assert deliver.delivery_tag is not None
        self.body = message.body
        self.properties = properties
        self.headers: Mapping[str, object] = properties.headers or _NONE
        self.redelivered = bool(deliver.redelivered)
        self._tag = deliver.delivery_tag
        self._channel_health = channel_health
        self._settled = settled

    @property
    def message_id(self) -> str | None:
        """AMQP message-id."""
        return self.properties.message_id or None

    @property
    def correlation_id(self) -> str | None:
        """AMQP correlation-id."""
        return self.properties.correlation_id or None

    @property
    def reply_to(self) -> str | None:
        """AMQP reply-to."""
        return self.properties.reply_to or None

    def is_lost(self) -> bool:
        """True once the channel is gone."""
        return self._channel_health.is_lost()

    async def is_still_ours(self) -> bool:
        """Whether the broker still counts this delivery as ours."""
        return await self._channel_health.is_still_ours()

    async def ack(self) -> None:
        """Acknowledge. Raises StaleDeliveryError when the channel is gone."""
        if self.is_lost():
            raise StaleDeliveryError
        self._channel_health.acks.ack(self._tag)
        self._settled()

    async def reject(self) -> None:
        """Return to the queue. A reject counts as a failed delivery on every version; a nack does not on 4.3."""
        if self.is_lost():
            raise StaleDeliveryError
        self._channel_health.acks.reject(self._tag)
        self._settled()
