"""The fake DCS as a process: serve until a signal; change the faults of a server in another process."""

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
    """Serve until SIGINT or SIGTERM; calls `on_listening` once. Raises OSError if the address is not available."""
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
    """Serve until SIGINT or SIGTERM, on a new event loop."""
    asyncio.run(serve(settings, host, port, on_listening))


class ChangeError(Exception):
    """The settings could not be changed; the text is for an operator."""


def replace_faults(url: str, faults: Mapping[str, float]) -> None:
    """Replace all faults of the fake DCS at `url`. Raises ChangeError."""
    try:
        _put_settings(url, {"faults": None})  # a merge patch keeps members that it does not name
        _put_settings(url, {"faults": faults})
    except HTTPError as http_error:
        answer = http_error.read().decode(errors="replace").strip()
        raise ChangeError(
            f"The server at {url} is no fake DCS, or rejects the change: {http_error.code} {answer}"[:300]
        ) from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ChangeError(
            f"No fake DCS answers at {url}: {reason}. `demo --keep` and `simulate` print its URL."
        ) from None


def _put_settings(url: str, patch: Mapping[str, object]) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError("not an http address")
    request = Request(f"{url.rstrip('/')}/_settings", json.dumps(patch).encode(), method="PUT")  # noqa: S310 - only http, checked above
    with urlopen(request, timeout=CHANGE_TIMEOUT_SECONDS) as reply:  # noqa: S310 - only http, checked above
        reply.read()
