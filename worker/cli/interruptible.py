"""Work that Ctrl-C and SIGTERM end in an orderly way, at any moment."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

from worker.cli.statuses import INTERRUPTED


def interruptible(work: Coroutine[Any, Any, int]) -> int:
    """Run `work`, which returns an exit status; a signal cancels it, so that it can clear up, a second one ends all."""
    return asyncio.run(_guarded(work))


async def _guarded(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    caught: list[int] = []

    def on_signal(number: int) -> None:
        if caught:
            os._exit(INTERRUPTED + number)
        caught.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if caught:
            return INTERRUPTED + caught[0]
        raise
