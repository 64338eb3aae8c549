"""Whether the channel still owns its deliveries: how long the broker has to answer a probe."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit import delivery
from worker.rabbit.delivery import ChannelHealth

PROBE_TIMEOUT_SECONDS = 0.2


class ProbeChannel:
    """A channel on which a question is answered when `answered` is set."""

    is_closed = False

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[Any] = set()

    async def queue_declare(self, queue: str, *, passive: bool) -> Any:
        """Answer with counts."""
        await self.answered.wait()
        return SimpleNamespace(consumer_count=1, message_count=7)


@pytest.fixture
async def channel(monkeypatch: pytest.MonkeyPatch) -> ProbeChannel:
    """A channel that does not answer yet."""
    monkeypatch.setattr(delivery, "PROBE_TIMEOUT_SECONDS", PROBE_TIMEOUT_SECONDS)
    return ProbeChannel()


def health_of(channel: Any) -> ChannelHealth:
    """The health of a channel."""
    return ChannelHealth(channel, channel, "requests", FreezeDetector(lambda: 0.0), lambda: None)


async def test_probe_without_an_answer_loses_the_channel(channel: ProbeChannel) -> None:
    """After the deadline."""
    health = health_of(channel)
    assert not await health.probe()
    assert "does not answer" in await health.lost()


async def test_probe_behind_deliveries_keeps_the_channel(channel: ProbeChannel) -> None:
    """As long as they come, its answer can still come behind them, much later than the deadline."""
    health = health_of(channel)
    probing = asyncio.create_task(health.probe())
    for _ in range(8):
        await asyncio.sleep(PROBE_TIMEOUT_SECONDS / 4)
        health.note_delivery()
    channel.answered.set()
    assert await probing
    assert not health.is_lost()


async def test_channel_is_lost_when_deliveries_end_without_an_answer(channel: ProbeChannel) -> None:
    """A delivery that comes while the probe fails, or after it, changes nothing."""
    health = health_of(channel)
    probing = asyncio.create_task(health.probe())
    await asyncio.sleep(PROBE_TIMEOUT_SECONDS / 2)
    health.note_delivery()
    assert not await probing
    health.note_delivery()
    assert health.is_lost()
