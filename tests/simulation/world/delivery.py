"""A message in a replica's hands."""

from collections.abc import Callable
from typing import Any

from tests.simulation.world.broker import Broker, Channel
from tests.simulation.world.records import Handed
from tests.simulation.world.stage import Stage
from worker.policy.call_result import StaleDeliveryError


class Delivery:
    """One message in a replica's hands."""

    message_id = correlation_id = reply_to = None
    properties: Any = None

    def __init__(self, stage: Stage, broker: Broker, channel: Channel, handed: Handed) -> None:
        self.handed = handed
        self.body = handed.message.body
        self.headers = broker.headers(handed.message)
        self.redelivered = handed.message.failures > 0
        self._stage = stage
        self._broker = broker
        self._channel = channel

    def is_lost(self) -> bool:
        """Whether the replica knows that the channel is gone."""
        return self._channel.is_known_lost

    async def is_still_ours(self) -> bool:
        """Whether the channel lives; asked of the broker after a freeze."""
        channel, stage = self._channel, self._stage
        while not channel.is_known_lost and channel.heard != (freezes := stage.freezes):
            await stage.point("ask.before")
            is_open = channel.is_open
            await stage.point("ask.after")
            channel.heard = freezes
            if not is_open:
                channel.notice()
        return not channel.is_known_lost

    async def ack(self) -> None:
        """Acknowledge; without effect where the channel is gone unnoticed. Raises StaleDeliveryError."""
        await self._answer("ack", self._broker.ack)
        self.handed.has_acked = True

    async def reject(self) -> None:
        """Return to the queue. Raises StaleDeliveryError."""
        await self._answer("reject", self._broker.reject)

    async def _answer(self, kind: str, effect: Callable[[Channel, Handed], None]) -> None:
        if self.is_lost():
            raise StaleDeliveryError
        if kind == "ack" and self.handed.confirmed.isdisjoint(("event", "copy")):
            self._stage.violate("acknowledged before an event or a copy was confirmed")
        if await self._stage.point(f"{kind}.before") == "ack-lost":
            self._stage.lose_channel()
        self._stage.say("%s%s", kind, "" if self._channel.is_open else " (lost)")
        if self.handed in self._channel.unacked:
            effect(self._channel, self.handed)
        elif self._channel.is_open:
            self._stage.violate("answered a delivery twice")
        await self._stage.point(f"{kind}.after")
