"""Replies: what a harmful, frozen or full address costs, and whom."""

import asyncio
from collections import Counter

import pytest
from aiormq.exceptions import ConnectionInternalError, DeliveryError
from pamqp.commands import Basic

from schemas import names
from worker.policy.call_result import UnconfirmedError
from worker.rabbit import replies
from worker.rabbit.connection import Brokers
from worker.rabbit.on_demand import ClosedError, OnDemandConnection
from worker.rabbit.replies import CONNECTIONS_ALONE, REPLY_TRIES, ReplyPublisher

DAMAGED = f"{names.DIRECT_REPLY_TO}.damaged"


class Broker:
    """What a broker does with replies, by their address."""

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.tries: Counter[str] = Counter()
        self.connections: list[Connection] = []
        self.refused: list[str] = []
        self.is_away = self.is_cured = self.is_shared_lost = False
        self.harmful = DAMAGED
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def connect(self) -> "Connection":
        """Another connection."""
        self.connections.append(Connection(self))
        return self.connections[-1]

    def publisher(self) -> ReplyPublisher:
        """The publisher under test."""
        return ReplyPublisher(self.connect, self.refused.append)


class Connection(OnDemandConnection):
    """A connection that the broker closes for an address `harmful…` or a damaged one, with all that is under way on it.

    A queue `frozen…` never confirms.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(lambda: Brokers(("amqp://",)), "replies")
        self.broker = broker
        self.under_way: set[asyncio.Future[None]] = set()
        self.is_closed = False
        self.waiting = 0
        self.published: list[str] = []

    @property
    def channels(self) -> int:
        """Those that wait for a confirm."""
        return self.waiting

    async def publish(
        self, body: bytes, properties: Basic.Properties, routing_key: str, timeout_seconds: float, *, mandatory: bool
    ) -> None:
        """Wait for the confirm."""
        assert not mandatory
        await self.broker.may_answer.wait()  # until then no connection is open
        self.broker.tries[routing_key] += 1
        self.published.append(routing_key)
        if self.broker.is_away or (self.broker.is_shared_lost and self is self.broker.connections[0]):
            raise UnconfirmedError("no node is reached, or no channel could be opened")
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way.add(answer)
        asyncio.get_running_loop().call_soon(self._answer, routing_key, answer)
        try:
            async with asyncio.timeout(timeout_seconds):
                await answer
        except TimeoutError:
            self.waiting += 1
            raise
        finally:
            self.under_way.discard(answer)
        self.broker.delivered.append(routing_key)

    def _answer(self, address: str, answer: asyncio.Future[None]) -> None:
        if address.startswith(("harmful", self.broker.harmful)):
            for future in self.under_way:
                if not future.done():
                    error = ClosedError("INTERNAL_ERROR")
                    error.__cause__ = ConnectionInternalError() if address.startswith(self.broker.harmful) else None
                    future.set_exception(error)
        elif address.startswith("full"):
            answer.set_exception(DeliveryError(None, Basic.Nack()))
        elif address.startswith("strange"):
            answer.set_exception(ValueError("what nobody thought of"))
        elif not answer.done() and (self.broker.is_cured or not address.startswith("frozen")):
            answer.set_result(None)

    async def aclose(self) -> None:
        """Close it, with all that is under way on it."""
        self.is_closed = True


async def publish_all(publisher: ReplyPublisher, addresses: list[str]) -> None:
    """Publish to all at once, and wait until no reply is under way."""
    async with asyncio.timeout(30):
        replies_to = (publisher.publish(b"", Basic.Properties(message_id=address), address) for address in addresses)
        await asyncio.gather(*replies_to)
        while "<ReplyPublisher: 0 under way" not in repr(publisher):
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can afford."""
    monkeypatch.setattr(replies, "REPLY_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(replies, "FROZEN_ADDRESS_SECONDS", 0.3)
    monkeypatch.setattr(replies, "REPLY_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(replies, "HOLD_SECONDS", 0.01)
    monkeypatch.setattr(replies, "CLOSE_SECONDS", 0.01)


async def test_damaged_direct_address_costs_its_own_reply_only() -> None:
    """It is tried once, on a connection of its own: no other reply is published twice."""
    broker = Broker()
    good = [f"answers-{number}" for number in range(20)] + [f"{names.DIRECT_REPLY_TO}.{number}" for number in range(20)]
    damaged = [f"{DAMAGED}-{number}" for number in range(20)]
    publisher = broker.publisher()
    await publish_all(
        publisher, [address for three in zip(good[:20], damaged, good[20:], strict=True) for address in three]
    )
    assert sorted(broker.refused) == sorted(damaged)
    assert sorted(broker.delivered) == sorted(good)
    assert set(broker.tries.values()) == {1}
    assert len(broker.connections) == 1 + CONNECTIONS_ALONE


async def test_address_that_closes_shared_connection_costs_its_own_reply_only() -> None:
    """Everything under way beside it is published again, alone; the harmful ones are tried three times alone."""
    broker = Broker()
    good = [f"answers-{number}" for number in range(20)]
    await publish_all(broker.publisher(), [*good[:10], "harmful-1", *good[10:], "harmful-2"])
    assert sorted(broker.refused) == ["harmful-1", "harmful-2"]
    assert sorted(broker.delivered) == sorted(good)
    assert {broker.tries["harmful-1"], broker.tries["harmful-2"]} == {1 + REPLY_TRIES}


async def test_replies_to_direct_address_that_took_one_share_a_connection() -> None:
    """Connections that carry one reply at a time are for addresses that may be damaged."""
    broker = Broker()
    publisher = broker.publisher()
    address = f"{names.DIRECT_REPLY_TO}.1"
    shared = broker.connections[0]
    await publish_all(publisher, [address])
    assert shared.published == []
    await publish_all(publisher, [address] * 20)
    assert shared.published == [address] * 20
    await publish_all(publisher, [address, "harmful"])
    await publish_all(publisher, [address])
    assert (broker.refused, len(broker.delivered)) == (["harmful"], 23)


async def test_direct_address_that_becomes_damaged_costs_its_own_reply_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once on the shared connection and once alone, then never beside other replies."""
    broker = Broker()
    publisher = broker.publisher()
    monkeypatch.setattr(replies, "MAX_REMEMBERED_ADDRESSES", 2)
    for number in range(3):
        await publish_all(publisher, [f"{names.DIRECT_REPLY_TO}.{number}"])
    broker.harmful = f"{names.DIRECT_REPLY_TO}.2"
    await publish_all(publisher, ["answers", broker.harmful])
    await publish_all(publisher, [broker.harmful, "answers"])
    assert (broker.refused, broker.delivered.count("answers")) == ([broker.harmful] * 2, 2)
    assert broker.connections[0].published.count(broker.harmful) == 1
    await publish_all(publisher, [f"{names.DIRECT_REPLY_TO}.0"])  # forgotten by now: the addresses are bounded
    assert f"{names.DIRECT_REPLY_TO}.0" not in broker.connections[0].published


async def test_frozen_queues_hold_up_neither_their_requests_nor_other_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are."""
    monkeypatch.setattr(replies, "REPLY_TIMEOUT_SECONDS", 60.0)
    broker = Broker()
    publisher = broker.publisher()
    async with asyncio.timeout(20):
        await asyncio.gather(*(publisher.publish(b"", Basic.Properties(), f"frozen-{number}") for number in range(100)))
        await publisher.publish(b"", Basic.Properties(), "answers")
    assert broker.delivered == ["answers"]
    assert "100 under way" in repr(publisher)
    await publisher.aclose()


async def test_reply_to_frozen_queue_is_abandoned_after_its_time() -> None:
    """After one try, and reported."""
    broker = Broker()
    frozen = [f"frozen-{number}" for number in range(20)]
    await publish_all(broker.publisher(), frozen)
    assert sorted(broker.refused) == sorted(frozen)
    assert set(broker.tries.values()) == {1}


async def test_replies_in_the_background_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on requests wait for their replies."""
    monkeypatch.setattr(replies, "MAX_IN_BACKGROUND", 2)
    broker = Broker()
    publisher = broker.publisher()
    loop = asyncio.get_running_loop()
    for number in range(2):
        await publisher.publish(b"", Basic.Properties(), f"frozen-{number}")
    started = loop.time()
    await publisher.publish(b"", Basic.Properties(), "frozen-2")
    assert loop.time() - started > 0.045


async def test_channels_that_wait_for_frozen_queues_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection takes the place of one that has too many, which is closed once nothing is under way on it."""
    monkeypatch.setattr(replies, "MAX_CHANNELS", 5)
    broker = Broker()
    publisher = broker.publisher()
    await publish_all(publisher, [f"frozen-{number}" for number in range(5)])
    assert not any(connection.is_closed for connection in broker.connections)
    await publish_all(publisher, ["answers"])
    assert [connection.is_closed for connection in broker.connections] == [True] + [False] * (CONNECTIONS_ALONE + 1)
    assert broker.delivered == ["answers"]


async def test_frozen_queue_is_not_tried_again_until_it_may_be_cured() -> None:
    """Its other replies are abandoned at once meanwhile."""
    broker = Broker()
    publisher = broker.publisher()
    await publish_all(publisher, ["frozen"])
    broker.is_cured = True
    await publish_all(publisher, ["frozen"] * 10)
    assert (broker.tries["frozen"], broker.delivered, len(broker.refused)) == (1, [], 11)
    await asyncio.sleep(replies.FROZEN_ADDRESS_SECONDS)
    await publish_all(publisher, ["frozen"])
    assert broker.delivered == ["frozen"]


async def test_remembered_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(replies, "MAX_REMEMBERED_ADDRESSES", 2)
    broker = Broker()
    publisher = broker.publisher()
    for number in range(3):
        await publish_all(publisher, [f"frozen-{number}"])
    assert "2 frozen" in repr(publisher)
    await publish_all(publisher, ["frozen-0"])
    assert broker.tries["frozen-0"] == 2


@pytest.mark.parametrize("address", ["full", "strange"])
async def test_address_that_fails_is_tried_three_times(address: str) -> None:
    """Nothing else waits for it, and nothing is raised."""
    broker = Broker()
    await publish_all(broker.publisher(), [address, "answers"])
    assert (broker.refused, broker.delivered) == ([address], ["answers"])
    assert broker.tries[address] == REPLY_TRIES


async def test_broker_that_is_away_makes_no_address_frozen() -> None:
    """The reply is abandoned after three tries alone; the next one to the same address is tried."""
    broker = Broker()
    publisher = broker.publisher()
    broker.is_away = True
    await publish_all(publisher, ["answers"])
    assert (broker.refused, broker.tries["answers"]) == (["answers"], 1 + REPLY_TRIES)
    broker.is_away = False
    await publish_all(publisher, ["answers"])
    assert broker.delivered == ["answers"]


async def test_channel_that_cannot_be_opened_on_shared_connection_is_no_try() -> None:
    """Another reply may just have closed that connection."""
    broker = Broker()
    broker.is_shared_lost = True
    answers = [f"answers-{number}" for number in range(20)]
    await publish_all(broker.publisher(), answers)
    assert (sorted(broker.delivered), broker.refused) == (sorted(answers), [])


async def test_broker_that_accepts_connections_but_does_not_answer_costs_replies_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many wait for a connection: their requests may wait for them."""
    monkeypatch.setattr(replies, "MAX_IN_BACKGROUND", 0)
    monkeypatch.setattr(replies, "MAX_REPLY_SECONDS", 0.05)
    broker = Broker()
    publisher = broker.publisher()
    broker.may_answer.clear()
    addresses = [
        address for number in range(50) for address in (f"answers-{number}", f"{names.DIRECT_REPLY_TO}.{number}")
    ]
    async with asyncio.timeout(10):
        await publish_all(publisher, addresses)
    assert (sorted(broker.refused), broker.tries) == (sorted(addresses), {})
    broker.may_answer.set()
    await publish_all(publisher, addresses)
    assert sorted(broker.delivered) == sorted(addresses)


async def test_end_waits_for_replies_only_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then every connection is closed, also one whose place another one took."""
    monkeypatch.setattr(replies, "MAX_CHANNELS", 1)
    broker = Broker()
    publisher = broker.publisher()
    await publish_all(publisher, ["frozen-1"])
    monkeypatch.setattr(replies, "REPLY_TIMEOUT_SECONDS", 60.0)
    await publisher.publish(b"", Basic.Properties(), "frozen-2")
    await publisher.aclose()
    assert all(connection.is_closed for connection in broker.connections)
    assert len(broker.connections) == 2 + CONNECTIONS_ALONE
    assert (broker.refused, "0 under way" in repr(publisher)) == (["frozen-1"], True)
