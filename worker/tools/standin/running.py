"""The stand-in as a process of its own: serve until told to stop."""

import asyncio
import signal
from collections.abc import Callable

from worker.tools.standin.server import StandIn
from worker.tools.standin.settings import StandInSettings


async def serve(settings: StandInSettings, host: str, port: int, announce: Callable[[StandIn], None]) -> None:
    """Serve until SIGINT or SIGTERM; `announce` is told once it listens. OSError if the address cannot be had."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with StandIn(settings, host=host, port=port) as standin:
            announce(standin)
            await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def run(settings: StandInSettings, host: str, port: int, announce: Callable[[StandIn], None]) -> None:
    """Serve until SIGINT or SIGTERM, on an event loop of its own."""
    asyncio.run(serve(settings, host, port, announce))
