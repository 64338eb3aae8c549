"""Messages of the parked queue: which must be renewed, and what is shown of them."""

from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from schemas import names
from worker.rabbit.tools.parked_queue import RENEWED_AT_RETURNS, ParkedMessage


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
