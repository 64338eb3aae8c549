"""Publisher of events: their properties, and what a queue leads to that refuses them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic

from schemas.event import SUCCEEDED_TYPE
from worker.policy.outcome import Completed
from worker.rabbit import copies
from worker.rabbit import publisher as module
from worker.rabbit.connection import Brokers
from worker.rabbit.on_demand import OnDemandConnection
from worker.rabbit.publisher import RabbitPublisher
from worker.rabbit.publishing import RefusedError
from worker.rabbit.replies import ReplyPublisher
from worker.rabbit.topology import describe

EVENT = cast(
    Completed,
    SimpleNamespace(
        EVENT_TYPES={True: SUCCEEDED_TYPE},
        succeeded=True,
        event_id="e-1",
        subject="r-1",
        completed_at="2026-01-01T00:00:00.000Z",
        journal="",
        is_repeated=False,
        body=b"{}",
    ),
)


class Channel:
    """A channel of a broker whose event queue may be full; like RabbitMQ 3.10 it goes on refusing once it did."""

    is_closed = False
    max_content_size = 100_000

    def __init__(self, broker: "Broker") -> None:
        self.broker = broker
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_refused = False

    async def basic_publish(self, body: bytes, *, properties: Basic.Properties, **_: Any) -> None:
        """Confirm or refuse."""
        self.has_refused |= self.broker.is_full
        if self.has_refused:
            raise DeliveryError(None, Basic.Nack())
        self.broker.published.append(properties)


class Broker:
    """What was published, and reported."""

    def __init__(self) -> None:
        self.is_full = self.is_blocking = False
        self.asked_if_blocking = self.opened = 0
        self.published: list[Basic.Properties] = []
        self.reported: list[Sequence[str]] = []

    @asynccontextmanager
    async def open_channel(self, _: object, **__: bool) -> AsyncIterator[Channel]:
        """Another channel; closing it is known to its callbacks."""
        self.opened += 1
        channel = Channel(self)
        yield channel
        channel.closing.set_result(None)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[tuple[RabbitPublisher, "asyncio.Task[str]"]]:
        """The publisher under test, and its session."""
        topology = describe("requests", "in", "out", (1.0,))
        on_demand = OnDemandConnection(lambda: Brokers(("amqp://",)), "test")
        replies = ReplyPublisher(lambda: on_demand, lambda _: None)
        observer = SimpleNamespace(published=lambda *_: None, blocked=lambda _: None)
        publisher = RabbitPublisher(
            *("requests", "out", topology, observer, replies, on_demand),
            on_blocked=lambda _: None,
            on_stuck=self.reported.append,
        )
        up = asyncio.Event()
        session = asyncio.create_task(publisher.session(None, up.set))  # type: ignore[arg-type]
        await up.wait()
        yield publisher, session
        session.cancel()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker with the topology."""
    broker = Broker()

    async def nothing(*_: object) -> None:
        """Nothing is declared."""

    async def is_blocked(_: object) -> bool:
        broker.asked_if_blocking += 1
        return broker.is_blocking

    monkeypatch.setattr(module, "open_channel", broker.open_channel)
    monkeypatch.setattr(module, "declare_queues", nothing)
    monkeypatch.setattr(module, "is_blocked", is_blocked)
    monkeypatch.setattr(module, "BLOCKED_CHECK_INTERVAL_SECONDS", 0.005)
    return broker


async def publish(publisher: RabbitPublisher, correlation_id: str | None = None) -> None:
    """Publish the event."""
    await publisher.event(EVENT, correlation_id=correlation_id, reply_to=None, trace={})


async def test_queue_that_refuses_events_is_reported_until_it_takes_them(broker: Broker) -> None:
    """By itself once it is cured, although the broker goes on refusing on the channel; the session goes on."""
    async with asyncio.timeout(10), broker.session() as (publisher, session):
        await publish(publisher)
        broker.is_full = True
        for _ in range(2):
            with pytest.raises(RefusedError):
                await publish(publisher)
        assert [len(queues) for queues in broker.reported] == [1]
        assert "'out' with key 'migration.succeeded'" in broker.reported[0][0]
        broker.is_full = False
        while len(broker.published) < 2:
            try:
                await publish(publisher)
            except RefusedError:
                await asyncio.sleep(0.005)
        assert [len(queues) for queues in broker.reported] == [1, 0]
        await asyncio.sleep(0.02)
        await publish(publisher)
        assert not session.done()


async def test_report_of_refused_event_ends_though_it_is_not_in_hand_any_more(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another publish: consumption, which pauses until then, brings the next one."""
    monkeypatch.setattr(copies, "STUCK_SECONDS", 0.01)
    broker.is_full = True
    async with asyncio.timeout(10), broker.session() as (publisher, _):
        with pytest.raises(RefusedError):
            await publish(publisher)
        while len(broker.reported) < 2:
            await asyncio.sleep(0.001)
    assert [len(queues) for queues in broker.reported] == [1, 0]


async def test_no_channel_is_opened_on_blocked_connection(broker: Broker) -> None:
    """It would not be answered, and the session would end."""
    async with asyncio.timeout(10), broker.session() as (publisher, _):
        opened = broker.opened
        broker.is_full = broker.is_blocking = True
        with pytest.raises(RefusedError):
            await publish(publisher)
        asked = broker.asked_if_blocking
        while broker.asked_if_blocking < asked + 3:
            await asyncio.sleep(0.001)
        assert broker.opened == opened
        broker.is_full = broker.is_blocking = False
        while broker.opened == opened:
            await asyncio.sleep(0.001)
        await publish(publisher)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"order-1", "order-1"),
        ("zürich".encode(), "zürich"),
        (bytes(range(240, 256)), bytes(range(240, 256)).hex()),
        (b"m\xfcnchen", b"m\xfcnchen".hex()),
        (b"\xed\xa0\xbd", "eda0bd"),
        (b"\xff" * 255, "ff" * 127),
    ],
    ids=["text", "UTF-8", "a UUID's bytes", "Latin-1", "half a surrogate", "longest"],
)
async def test_properties_of_events_are_utf_8(broker: Broker, sent: bytes, expected: str) -> None:
    """Other bytes of the sender are answered in hexadecimal: consumers of others would break on them."""
    async with asyncio.timeout(10), broker.session() as (publisher, _):
        await publish(publisher, sent.decode("utf-8", "surrogateescape"))
    [properties] = broker.published
    assert properties.correlation_id == expected
    "".join(value for _, value in properties if isinstance(value, str)).encode()  # raises if one is no text
