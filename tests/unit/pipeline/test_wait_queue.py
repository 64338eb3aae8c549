"""The wait queue: who is asked at a wake, and who goes."""

import asyncio
from contextlib import suppress
from math import inf

from worker.pipeline.wait_queue import WaitQueue


async def test_items_that_are_alike_are_asked_once_per_wake() -> None:
    """A thousand requests of a throttled project cost one question, and the one behind them goes."""
    asked: list[str] = []

    def offer(item: str, _: float) -> tuple[float, bool]:
        asked.append(item)
        return (0.0 if item == "other" else inf), False

    queue: WaitQueue[str] = WaitQueue(offer, lambda _: None, lambda item: item.partition("-")[0], lambda: 0.0)
    throttled = [asyncio.create_task(queue.wait(f"throttled-{number}", is_first=False)) for number in range(1000)]
    await asyncio.sleep(0)
    asked.clear()
    async with asyncio.timeout(5):
        await queue.wait("other", is_first=False)
    assert asked == ["throttled-0", "other"]
    assert len(queue.items) == 1000
    for task in throttled:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
