"""Acknowledgements: in order, a few per turn of the event loop, and only the writer waits for the connection."""

import asyncio

from worker.rabbit.delivery import FRAMES_PER_TURN, AckWriter


class Channel:
    """aiormq's channel, as far as acknowledgements go: a short queue that another task empties."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[tuple[str, int]] = asyncio.Queue(maxsize=10)
        self.most = 0

    async def basic_ack(self, delivery_tag: int, multiple: bool = False, wait: bool = True) -> None:
        """Put an acknowledgement into the queue."""
        assert not wait
        await self._put(("ack", delivery_tag))

    async def basic_reject(self, delivery_tag: int, *, requeue: bool = False, wait: bool = True) -> None:
        """Put a rejection into the queue."""
        assert requeue
        await self._put(("reject", delivery_tag))

    async def _put(self, frame: tuple[str, int]) -> None:
        await self.frames.put(frame)
        self.most = max(self.most, self.frames.qsize())

    async def drain(self, written: list[tuple[str, int]]) -> None:
        """Write each frame as it comes."""
        while True:
            written.append(await self.frames.get())


def writing(channel: Channel) -> AckWriter:
    """A writer of acknowledgements on this channel."""
    return AckWriter(channel)  # type: ignore[arg-type]


async def test_burst_never_fills_the_queue_of_frames() -> None:
    """Else aiormq would drop its answer to a channel that the broker closes at that moment."""
    channel, written = Channel(), list[tuple[str, int]]()
    writer, draining = writing(channel), asyncio.create_task(channel.drain(written))
    async with writer.running():
        for tag in range(64):
            writer.ack(tag)
        writer.reject(64)
        assert repr(writer) == "<AckWriter: 65 waiting>"
        await writer.flush()
    draining.cancel()
    assert written == [*(("ack", tag) for tag in range(64)), ("reject", 64)]
    assert channel.most <= FRAMES_PER_TURN


async def test_flush_returns_at_once_when_nothing_waits_and_later_acknowledgements_are_written() -> None:
    """The writer starts again after it was idle."""
    channel = Channel()
    writer = writing(channel)
    await writer.flush()
    async with writer.running():
        for tag in (1, 2):
            writer.ack(tag)
            await writer.flush()
            assert channel.frames.get_nowait() == ("ack", tag)


async def test_connection_that_takes_nothing_holds_only_the_writer_up() -> None:
    """Acknowledging never waits, and the writer ends with its session."""
    channel = Channel()
    writer = writing(channel)
    async with asyncio.timeout(5), writer.running():
        for tag in range(20):
            writer.ack(tag)
        while not channel.frames.full():
            await asyncio.sleep(0)
    assert channel.frames.qsize() == 10
