"""Confirms, returns and refusals of a real broker: each publish gets its own."""

import asyncio
from typing import Any

import pytest
from aiormq.exceptions import ChannelInvalidStateError, ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.commands import Basic

from worker.rabbit.connection import Brokers, connected, open_channel
from worker.rabbit.publishing import ConfirmChannel

QUEUE, FULL, MISSING = "confirms", "confirms.full", "confirms.missing"


async def test_each_publish_with_same_id_gets_its_confirm(vhost: str) -> None:
    """Returned, refused, confirmed, and confirmed without a queue where that is no error; in every order."""
    expected = {MISSING: PublishError, FULL: DeliveryError, QUEUE: type(None)}
    full: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    async with connected(Brokers((vhost,)), 0, "test") as connection, open_channel(connection, confirms=True) as opened:
        await opened.queue_declare(QUEUE, exclusive=True)
        await opened.queue_declare(FULL, exclusive=True, arguments=full)
        channel = ConfirmChannel(opened, timeout_seconds=10)
        queues = [MISSING, QUEUE, FULL, QUEUE, MISSING, FULL] * 20
        properties = Basic.Properties(message_id="one", delivery_mode=2)
        publishes = (channel.publish(b"x", properties, routing_key=queue, mandatory=True) for queue in queues)
        found = await asyncio.gather(*publishes, return_exceptions=True)
        assert [type(error) for error in found] == [expected[queue] for queue in queues]
        assert (await opened.queue_declare(QUEUE, passive=True)).message_count == queues.count(QUEUE)
        await channel.publish(b"x", properties, routing_key=MISSING)


async def test_channel_closed_by_broker_fails_every_publish(vhost: str) -> None:
    """No publish waits for its deadline, and none counts as confirmed."""
    async with connected(Brokers((vhost,)), 0, "test") as connection, open_channel(connection, confirms=True) as opened:
        channel = ConfirmChannel(opened, timeout_seconds=60)
        publishes = (
            channel.publish(b"", Basic.Properties(), exchange="confirms.no.exchange", routing_key=str(number))
            for number in range(50)
        )
        async with asyncio.timeout(10):
            found = await asyncio.gather(*publishes, return_exceptions=True)
        assert {type(error) for error in found} <= {ChannelNotFoundEntity, ChannelInvalidStateError}
        assert repr(channel) == "<ConfirmChannel: closed>"
        with pytest.raises(RuntimeError):
            await channel.publish(b"", Basic.Properties(), routing_key="x")
