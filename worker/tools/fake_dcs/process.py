"""The fake DCS as a process: serve until a signal, and change the settings of one that runs in another process."""

import asyncio
import json
import signal
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from worker.tools.fake_dcs.server import FakeDcs
from worker.tools.fake_dcs.settings import FakeDcsSettings

CHANGE_TIMEOUT_SECONDS: Final = 10.0


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


class ChangeError(Exception):
    """It could not be told; the text is for a person."""


def replace_faults(url: str, faults: Mapping[str, float]) -> None:
    """Let the fake DCS at `url` play these faults and no others. Raises ChangeError."""
    try:
        _put_settings(url, {"faults": None})  # a merge patch adds to what is there
        _put_settings(url, {"faults": faults})
    except HTTPError as http_error:
        answer = http_error.read().decode(errors="replace").strip()
        raise ChangeError(f"What runs at {url} is no fake DCS, or refuses: {http_error.code} {answer}"[:300]) from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ChangeError(f"No fake DCS answers at {url}: {reason}. `demo --keep` and `simulate` say theirs.") from None


def _put_settings(url: str, patch: Mapping[str, object]) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError("it is no http address")
    request = Request(f"{url.rstrip('/')}/_settings", json.dumps(patch).encode(), method="PUT")  # noqa: S310 - it is http
    with urlopen(request, timeout=CHANGE_TIMEOUT_SECONDS) as reply:  # noqa: S310 - it is http
        reply.read()
