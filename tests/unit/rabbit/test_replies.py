"""Replies: what a harmful, frozen or full address costs, and whom."""

import asyncio
from collections import Counter

import pytest
from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic

from worker.policy.call_result import UnconfirmedError
from worker.rabbit import replies
from worker.rabbit.connection import Brokers
from worker.rabbit.on_demand import ClosedError, OnDemandConnection
from worker.rabbit.replies import MAX_SEPARATE_CHANNELS, REPLY_TRIES, ReplyPublisher

PROPERTIES = Basic.Properties()


class Broker:
    """What a broker does with replies, by the first letters of their address."""

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.tries: Counter[str] = Counter()
        self.channels: list[Channel] = []
        self.is_away = self.is_cured = False

    def channel(self) -> "Channel":
        """Another channel."""
        self.channels.append(Channel(self))
        return self.channels[-1]


class Channel(OnDemandConnection):
    """A channel whose connection the broker closes for an address `harmful…`, with all that is under way on it.

    A queue `frozen…` blocks it for all addresses.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(lambda: Brokers(("amqp://",)), "replies")
        self.broker = broker
        self.under_way: set[asyncio.Future[None]] = set()
        self.is_closed = False
        self.is_blocked = False

    async def publish(
        self, body: bytes, properties: Basic.Properties, routing_key: str, timeout_seconds: float, *, mandatory: bool
    ) -> None:
        """Wait for the confirm."""
        assert not mandatory
        self.broker.tries[routing_key] += 1
        if self.broker.is_away:
            raise UnconfirmedError("no node is reached")
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way.add(answer)
        asyncio.get_running_loop().call_soon(self._answer, routing_key, answer)
        try:
            async with asyncio.timeout(timeout_seconds):
                await answer
        finally:
            self.under_way.discard(answer)
        self.broker.delivered.append(routing_key)

    def _answer(self, address: str, answer: asyncio.Future[None]) -> None:
        if address.startswith("harmful"):
            for future in self.under_way:
                if not future.done():
                    future.set_exception(ClosedError("541"))
        elif address.startswith("full"):
            answer.set_exception(DeliveryError(None, Basic.Nack()))
        elif address.startswith("frozen") and not self.broker.is_cured:
            self.is_blocked = True
        elif not answer.done() and not self.is_blocked:
            answer.set_result(None)

    async def aclose(self) -> None:
        """Open another connection next time."""
        self.is_closed, self.is_blocked = True, False


async def publish_all(publisher: ReplyPublisher, addresses: list[str]) -> dict[str, bool]:
    """Publish to all at once; whether each was taken."""
    async with asyncio.timeout(30):
        found = await asyncio.gather(*(publisher.publish(b"", PROPERTIES, address) for address in addresses))
    return dict(zip(addresses, found, strict=True))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can afford."""
    monkeypatch.setattr(replies, "REPLY_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(replies, "FROZEN_ADDRESS_SECONDS", 0.3)
    monkeypatch.setattr(replies, "REPLY_PAUSE_SECONDS", 0.001)


async def test_address_that_closes_connection_costs_its_own_reply_only() -> None:
    """Everything under way beside it is published again, alone; the harmful one is tried three times alone."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    good = [f"answers-{number}" for number in range(20)]
    found = await publish_all(publisher, [*good[:10], "harmful-1", *good[10:], "harmful-2"])
    assert [address for address, is_taken in found.items() if not is_taken] == ["harmful-1", "harmful-2"]
    assert sorted(broker.delivered) == sorted(good)
    assert {broker.tries["harmful-1"], broker.tries["harmful-2"]} == {1 + REPLY_TRIES}


async def test_harmful_address_is_not_tried_again() -> None:
    """Many requests with one harmful address close the connection as often as one."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    await asyncio.gather(*(publisher.publish(b"", PROPERTIES, "harmful") for _ in range(20)))
    tries = broker.tries["harmful"]
    assert tries <= 20 + REPLY_TRIES
    assert not await publisher.publish(b"", PROPERTIES, "harmful")
    assert broker.tries["harmful"] == tries


async def test_remembered_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(replies, "MAX_REMEMBERED_ADDRESSES", 2)
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    for number in range(3):
        await publisher.publish(b"", PROPERTIES, f"harmful-{number}")
    assert "2 harmful" in repr(publisher)
    await publisher.publish(b"", PROPERTIES, "harmful-0")
    assert broker.tries["harmful-0"] == 2 * (1 + REPLY_TRIES)


async def test_frozen_queue_costs_its_own_reply_only() -> None:
    """It is abandoned after its time, once beside the others and once on a separate channel."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    assert await publish_all(publisher, ["frozen", "answers"]) == {"frozen": False, "answers": True}
    assert broker.tries["frozen"] == 2
    await publisher.aclose()
    assert all(channel.is_closed for channel in broker.channels)


async def test_full_queue_is_tried_three_times() -> None:
    """Nothing else waits for it."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    assert await publish_all(publisher, ["full", "answers"]) == {"full": False, "answers": True}
    assert broker.tries["full"] == REPLY_TRIES


async def test_broker_that_is_away_makes_no_address_harmful() -> None:
    """The reply is abandoned; the next one to the same address is tried."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    broker.is_away = True
    assert not await publisher.publish(b"", PROPERTIES, "answers")
    broker.is_away = False
    assert await publisher.publish(b"", PROPERTIES, "answers")


async def test_frozen_queue_after_a_closing_does_not_hold_up_the_others() -> None:
    """It has its time when its turn comes."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    found = await publish_all(publisher, ["frozen", "answers-1", "harmful", "answers-2"])
    assert found == {"frozen": False, "answers-1": True, "harmful": False, "answers-2": True}


async def test_frozen_queue_of_many_requests_does_not_block_the_others() -> None:
    """Neither while its replies wait nor when it is tried again: its channel is left, and the others come through."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    for number in range(3):
        found = await publish_all(publisher, [*["frozen"] * 64, f"answers-{number}"])
        assert found == {"frozen": False, f"answers-{number}": True}
        await asyncio.sleep(replies.FROZEN_ADDRESS_SECONDS)
        assert await publisher.publish(b"", PROPERTIES, f"later-{number}")
    assert broker.tries["frozen"] <= 64 + 3 * MAX_SEPARATE_CHANNELS
    await publisher.aclose()
    assert all(channel.is_closed for channel in broker.channels)


async def test_queue_that_is_cured_gets_its_replies() -> None:
    """After the time for which it is avoided."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    assert not await publisher.publish(b"", PROPERTIES, "frozen")
    broker.is_cured = True
    assert not await publisher.publish(b"", PROPERTIES, "frozen")
    await asyncio.sleep(replies.FROZEN_ADDRESS_SECONDS)
    assert await publisher.publish(b"", PROPERTIES, "frozen")
    assert "0 frozen" in repr(publisher)


async def test_frozen_queue_of_many_requests_takes_its_time_once_after_a_closing() -> None:
    """Its other replies are abandoned at once, so the others have not long to wait for their turn."""
    broker = Broker()
    publisher = ReplyPublisher(broker.channel)
    found = await publish_all(publisher, [*["frozen"] * 60, "harmful", "answers"])
    assert found == {"frozen": False, "harmful": False, "answers": True}
    assert broker.tries["frozen"] == 60 + 1
