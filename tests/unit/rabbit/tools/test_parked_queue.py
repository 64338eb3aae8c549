"""The parked queue: who reads it alone, which of its messages must be renewed, and what is shown of them."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic, Queue
from pamqp.header import ContentHeader

from schemas import names
from tests.malformed_messages import TYPED_HEADERS, raw_headers
from tests.unit.cli.parked.parked_messages import BODY, NOW, SETTINGS
from worker.cli.parked.request import ParkedRequest
from worker.rabbit import lenient_codec
from worker.rabbit.tools import parked_queue
from worker.rabbit.tools.parked_queue import RENEWED_AT_RETURNS, ParkedMessage, ParkedQueue, ParkedQueueInUseError


def delivered(headers: dict[str, Any], *, redelivered: bool) -> DeliveredMessage:
    """A message as aiormq hands it over."""
    header = ContentHeader(properties=Basic.Properties(headers=headers))
    delivery = Basic.Deliver(delivery_tag=7, redelivered=redelivered)
    return DeliveredMessage(delivery=delivery, header=header, body=b"x", channel=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "redelivered", "needs_renewal"),
    [
        (RENEWED_AT_RETURNS, True, True),
        (RENEWED_AT_RETURNS - 1, True, False),
        (RENEWED_AT_RETURNS, False, False),
        ("many", True, False),
    ],
)
def test_message_needs_renewal_at_the_broker_s_count_of_returns(
    count: object, redelivered: bool, needs_renewal: bool
) -> None:
    """Without the redelivered flag the count is the sender's word."""
    message = ParkedMessage.of(delivered({names.DELIVERY_COUNT: count}, redelivered=redelivered))
    assert (message.tag, message.needs_renewal) == (7, needs_renewal)


def test_message_without_journal_has_no_tag_and_keeps_what_identifies_it() -> None:
    """Headers are apart; what is not set is left out."""
    properties = Basic.Properties(headers={"a": 1, names.JOURNAL: "[]"}, message_id="m1", app_id="sender")
    message = ParkedMessage(b"x", properties, 7).without_journal()
    assert (message.tag, message.headers, message.attributes) == (0, {"a": 1}, {"message_id": "m1"})
    assert ParkedMessage(b"x", Basic.Properties()).without_journal().attributes == {}


class OneQueue:
    """A queue of 5 messages, with channels that only count its consumers, and answer one after the other."""

    def __init__(self) -> None:
        self.consumers = 0

    def channel(self) -> Any:
        """A channel of a command."""
        return SimpleNamespace(
            closing=asyncio.get_running_loop().create_future(),
            on_consumer_cancel_callbacks=set(),
            queue_declare=self._declare,
            basic_consume=self._consume,
            basic_qos=self._set_prefetch,
        )

    async def _declare(self, *_: object, **__: object) -> Queue.DeclareOk:
        await asyncio.sleep(0)
        return Queue.DeclareOk(names.parked_queue("q"), 5, self.consumers)

    async def _consume(self, *_: object, **__: object) -> None:
        self.consumers += 1
        await asyncio.sleep(0)

    async def _set_prefetch(self, **_: object) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(5))
async def test_two_commands_that_begin_together_do_not_both_read(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would hold some of the requests, and wait for the others. The second begins so many steps later."""
    monkeypatch.setattr(parked_queue, "OTHER_READER_TIMEOUT_SECONDS", 0.0)
    broker = OneQueue()

    async def begin(later: int) -> None:
        for _ in range(later):
            await asyncio.sleep(0)
        await ParkedQueue("q", cast(Any, None), broker.channel(), broker.channel()).open()

    one, other = await asyncio.gather(begin(0), begin(turns), return_exceptions=True)
    assert isinstance(one, ParkedQueueInUseError) or isinstance(other, ParkedQueueInUseError)
    assert {type(ended) for ended in (one, other)} <= {ParkedQueueInUseError, type(None)}


class CopiedQueue(OneQueue):
    """A queue whose one message was returned often; what is published to its channel is in `copies`, as bytes."""

    def __init__(self, message: DeliveredMessage) -> None:
        super().__init__()
        self.copies: list[tuple[str, bytes]] = []
        self._message: DeliveredMessage | None = message

    def channel(self) -> Any:
        """A channel that also publishes and acknowledges."""
        channel = super().channel()
        channel.basic_publish, channel.basic_ack, channel.is_closed = self._publish, self._ack, False
        return channel

    async def _consume(self, *arguments: Any, **_: object) -> None:
        self.consumers += 1
        _, deliver = arguments
        if self._message is not None:
            await deliver(self._message)

    async def _publish(self, _: bytes, *, routing_key: str, properties: Basic.Properties, **__: object) -> None:
        self.copies.append((routing_key, properties.marshal()))

    async def _ack(self, *_: object, **__: object) -> None:
        self._message = None


async def test_renewed_and_replayed_messages_keep_the_senders_headers() -> None:
    """Byte for byte, of every type that clients write."""
    lenient_codec.install()
    count = bytes([len(names.DELIVERY_COUNT)]) + names.DELIVERY_COUNT.encode() + b"b" + bytes([RENEWED_AT_RETURNS])
    raw = raw_headers(*TYPED_HEADERS, count)
    message = delivered({}, redelivered=True)
    message.header.properties.unmarshal(int.from_bytes(raw[:2]), raw[2:])
    broker = CopiedQueue(message)
    queue = ParkedQueue("q", cast(Any, None), broker.channel(), broker.channel())
    await queue.open()
    await anext(queue.read())
    parked = ParkedMessage(BODY, message.header.properties, 7)
    await queue.move(parked, ParkedRequest.read(parked, SETTINGS).replay_headers(10, NOW))
    (renewed_in, renewed), (replayed_in, replayed) = broker.copies
    assert (renewed_in, replayed_in) == (names.parked_queue("q"), "q")
    for copy in (renewed, replayed):
        assert [entry for entry in TYPED_HEADERS if entry not in copy] == []
        assert names.DELIVERY_COUNT.encode() not in copy
