"""The consumer: what its callers see when the connection to the broker is stuck."""

import asyncio

import pytest

from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.connection import ConnectionLostError
from worker.rabbit.consumer import Consumer
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.topology import describe


def a_consumer() -> Consumer:
    """A consumer without a session."""
    plan = describe("requests", "requests-exchange", "events", (10.0,))
    return Consumer(
        "requests",
        plan,
        lambda _: None,
        prefetch=8,
        freeze_detector=FreezeDetector(lambda: 0.0),
        locks=BrokerLocks("requests"),
        paused=lambda _: None,
    )


async def test_stop_on_a_stuck_connection_is_an_error_and_no_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiormq sets CancelledError on a pending cancel when the connection is closed; the drain must go on after it."""

    async def stuck() -> None:
        raise asyncio.CancelledError

    consumer = a_consumer()
    monkeypatch.setattr(consumer, "_adjust", stuck)
    with pytest.raises(ConnectionLostError):
        await consumer.stop()
    assert "draining" in consumer.pauses


async def test_cancelled_stop_stays_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal ends the wait at once."""
    has_begun = asyncio.Event()

    async def waits() -> None:
        has_begun.set()
        await asyncio.Event().wait()

    consumer = a_consumer()
    monkeypatch.setattr(consumer, "_adjust", waits)
    stopping = asyncio.create_task(consumer.stop())
    await has_begun.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
