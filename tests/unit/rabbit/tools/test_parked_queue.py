"""The parked queue: who reads it alone, which of its messages must be renewed, and what is shown of them."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic, Queue
from pamqp.header import ContentHeader

from schemas import names
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
