"""The fake DCS as a process of its own: serve until told to stop."""

import asyncio
import signal
from collections.abc import Callable

from worker.tools.fake_dcs.server import FakeDcs
from worker.tools.fake_dcs.settings import FakeDcsSettings


async def serve(settings: FakeDcsSettings, host: str, port: int, on_listening: Callable[[FakeDcs], None]) -> None:
    """Serve until SIGINT or SIGTERM; `announce` is told once it listens. OSError if the address cannot be had."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with FakeDcs(settings, host=host, port=port) as fake_dcs:
            on_listening(fake_dcs)
            await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def run(settings: FakeDcsSettings, host: str, port: int, on_listening: Callable[[FakeDcs], None]) -> None:
    """Serve until SIGINT or SIGTERM, on an event loop of its own."""
    asyncio.run(serve(settings, host, port, on_listening))
