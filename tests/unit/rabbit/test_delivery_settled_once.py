"""A delivery is settled at most once: a broker closes the channel for a delivery tag that it does not know any more."""

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from pamqp.commands import Basic

from tests.pipeline.bench import Bench
from tests.pipeline.fakes import FakeObserver, request
from worker.pipeline import dispatcher
from worker.policy.call_result import StaleDeliveryError
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.consumer import PrefetchShare, PrefetchShares
from worker.rabbit.delivery import ChannelHealth, RabbitDelivery


class Channel:
    """A channel with two unsettled deliveries; like RabbitMQ, it is closed for any other delivery tag."""

    def __init__(self) -> None:
        self.unsettled = {1, 2}
        self.returned: list[int] = []
        self.is_closed = False
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[Any] = set()

    async def basic_ack(self, delivery_tag: int, *, wait: bool) -> None:
        """Forget the message."""
        self._settle(delivery_tag)

    async def basic_reject(self, delivery_tag: int, *, requeue: bool, wait: bool) -> None:
        """Return the message to its queue."""
        self._settle(delivery_tag)
        self.returned.append(delivery_tag)

    def _settle(self, delivery_tag: int) -> None:
        if delivery_tag not in self.unsettled:
            self.is_closed = True
        self.unsettled.discard(delivery_tag)


class Session:
    """The channel, its health, and the share of the consumer that both deliveries belong to."""

    def __init__(self) -> None:
        self.channel = Channel()
        channel: Any = self.channel
        self.health = ChannelHealth(channel, channel, "requests", FreezeDetector(lambda: 0.0), lambda: None)
        self.shares, self.share = PrefetchShares(2), PrefetchShare(granted=2, in_hand=2)

    def delivery(self, tag: int) -> RabbitDelivery:
        """The delivery of one request, with this tag."""
        deliver, header = Basic.Deliver("c", tag, False, "", "k"), SimpleNamespace(properties=Basic.Properties())
        message: Any = SimpleNamespace(delivery=deliver, body=request(request_id=f"r-{tag}"), header=header)
        return RabbitDelivery(message, self.health, partial(self.shares.settled, self.share))


@pytest.mark.parametrize("first", ["ack", "reject", "dead_letter"])
@pytest.mark.parametrize("second", ["ack", "reject", "dead_letter"])
async def test_settled_delivery_is_not_settled_again(first: str, second: str) -> None:
    """The second attempt is refused before anything is written, and counts for nothing."""
    session = Session()
    delivery = session.delivery(1)
    async with session.health.acks.running():
        await getattr(delivery, first)()
        with pytest.raises(StaleDeliveryError):
            await getattr(delivery, second)()
        await session.health.acks.flush()
    assert (session.channel.unsettled, session.channel.is_closed, session.share.in_hand) == ({2}, False, 1)


class FailingObserver(FakeObserver):
    """Fails for the first delivery that ended."""

    def settled(self, fact: DeliveryFinished) -> None:
        """Record, then fail."""
        super().settled(fact)
        if len(self.facts) == 1:
            raise RuntimeError("defect")


async def test_defect_after_the_acknowledgement_leaves_the_channel_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request that was acknowledged is not returned, and another one of the channel ends as usual."""
    monkeypatch.setattr(dispatcher, "DEFECT_PAUSE_SECONDS", 0.0)
    bench, session = Bench(observer=FailingObserver()), Session()
    async with session.health.acks.running():
        for tag in (1, 2):
            bench.dispatcher.deliver(session.delivery(tag))
            await bench.idle()
            await session.health.acks.flush()
    assert [str(error) for error in bench.observer.defects] == ["defect"]
    assert [event["request_id"] for event in bench.publisher.events] == ["r-1", "r-2"]
    assert bench.dcs.calls == ["create", "create"]
    assert (session.channel.unsettled, session.channel.returned) == (set(), [])
    assert (session.health.is_lost(), session.share.in_hand) == (False, 0)
