"""A message in a replica's hands."""

from collections.abc import Callable
from typing import Any

from tests.simulation.world.broker import Broker, Channel
from tests.simulation.world.records import DeliveryRecord
from tests.simulation.world.replica_context import ReplicaContext
from worker.policy.call_result import StaleDeliveryError


class Delivery:
    """One message in a replica's hands."""

    message_id = correlation_id = reply_to = None
    properties: Any = None

    def __init__(self, replica: ReplicaContext, broker: Broker, channel: Channel, record: DeliveryRecord) -> None:
        self.record = record
        self.body = record.message.body
        self.headers = broker.headers(record.message)
        self.redelivered = record.message.failures > 0
        self._replica = replica
        self._broker = broker
        self._channel = channel

    def is_lost(self) -> bool:
        """Whether the replica knows that the channel is gone."""
        return self._channel.is_known_lost

    async def is_still_ours(self) -> bool:
        """Whether the channel lives; asked of the broker after a freeze."""
        channel, replica = self._channel, self._replica
        while not channel.is_known_lost and channel.freezes_checked != (freezes := replica.freezes):
            await replica.point("channel-check.before")
            is_open = channel.is_open
            await replica.point("channel-check.after")
            channel.freezes_checked = freezes
            if not is_open:
                channel.notice_loss()
        return not channel.is_known_lost

    async def ack(self) -> None:
        """Acknowledge; without effect where the channel is gone unnoticed. Raises StaleDeliveryError."""
        await self._answer("ack", self._broker.ack)
        self.record.has_acked = True

    async def reject(self) -> None:
        """Return to the queue. Raises StaleDeliveryError."""
        await self._answer("reject", self._broker.reject)

    async def _answer(self, kind: str, effect: Callable[[Channel, DeliveryRecord], None]) -> None:
        if self.is_lost():
            raise StaleDeliveryError
        if kind == "ack" and self.record.confirmed.isdisjoint(("event", "copy")):
            self._replica.report_violation("acknowledged before an event or a copy was confirmed")
        if await self._replica.point(f"{kind}.before") == "ack-lost":
            self._replica.lose_channel()
        self._replica.log("%s%s", kind, "" if self._channel.is_open else " (lost)")
        if self.record in self._channel.unacked:
            effect(self._channel, self.record)
        elif self._channel.is_open:
            self._replica.report_violation("answered a delivery twice")
        await self._replica.point(f"{kind}.after")
