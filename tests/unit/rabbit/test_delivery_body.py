"""The body of a delivery: a large one that was refused leaves the memory."""

from types import SimpleNamespace
from typing import Any

import pytest
from pamqp.commands import Basic

from worker.policy.call_result import UncopyableError
from worker.rabbit.delivery import MAX_REFUSED_BODY_BYTES, RabbitDelivery


def delivery(body: bytes) -> RabbitDelivery:
    """A delivery of this body; nothing settles it."""
    deliver = Basic.Deliver("consumer", 1, False, "exchange", "key")
    message: Any = SimpleNamespace(delivery=deliver, body=body, header=SimpleNamespace(properties=Basic.Properties()))
    channel_health: Any = None
    return RabbitDelivery(message, channel_health, lambda: None)


def test_refused_body_is_kept_for_its_copy() -> None:
    """It is parked with reason and time."""
    body = b"x" * MAX_REFUSED_BODY_BYTES
    refused = delivery(body)
    refused.release_body()
    assert refused.body is body


def test_large_refused_body_is_released_and_cannot_be_copied() -> None:
    """The broker dead-letters it."""
    refused = delivery(b"x" * (MAX_REFUSED_BODY_BYTES + 1))
    refused.release_body()
    with pytest.raises(UncopyableError):
        _ = refused.body
