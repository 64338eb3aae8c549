"""Bounds of the HTTP server's connections: their number, the size of a head, the time for a head and for an answer.

aiohttp bounds the single lines of a head, and waits for its end as long as a connection lives.
"""

import asyncio
import logging
from typing import Any, Final

from aiohttp import web

MAX_CONNECTIONS: Final = 64
MAX_HEAD_BYTES: Final = 16_384
DEADLINE_SECONDS: Final = 10.0
"""For a head to come whole, and for an answer to be taken."""
KEEP_ALIVE_SECONDS: Final = 75.0
"""Longer than the interval between scrapes."""

_LOGGER: Final = logging.getLogger("aiohttp.server.silent")
"""Of aiohttp, which logs each malformed request as an error and quotes it. A page that fails is logged by `server`."""
_LOGGER.disabled = True
_OPTIONS: Final[dict[str, Any]] = {
    "logger": _LOGGER,
    "access_log": None,
    "keepalive_timeout": KEEP_ALIVE_SECONDS,
    "lingering_time": 0.0,
}


class BoundedServer(web.Server):
    """Server of `aiohttp.web` with bounded connections.

    Beyond MAX_CONNECTIONS, the one whose last request is the longest ago is closed: a probe always gets in.
    """

    def __init__(self, handler: Any, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        super().__init__(handler)
        self.deadline_seconds = deadline_seconds
        self.by_last_request: dict[BoundedConnection, None] = {}

    def __call__(self) -> "BoundedConnection":
        """The protocol of one more connection."""
        return BoundedConnection(self, self.by_last_request, self.deadline_seconds)


class BoundedConnection(web.RequestHandler):
    """Connection that is reset when it exceeds a bound."""

    def __init__(
        self, server: BoundedServer, by_last_request: "dict[BoundedConnection, None]", deadline_seconds: float
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **_OPTIONS)
        self._by_last_request = by_last_request
        self._deadline_seconds = deadline_seconds
        self._head_bytes = 0
        self._has_request = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make room for it."""
        super().connection_made(transport)
        self._by_last_request[self] = None
        if len(self._by_last_request) > MAX_CONNECTIONS:
            next(iter(self._by_last_request)).reset()
        self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._by_last_request.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the next request."""
        if not self._head_bytes:
            self._start_timer()
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.reset()
            return
        super().data_received(data)

    def request_received(self) -> None:
        """A head came whole; the time for its answer begins."""
        self._head_bytes, self._has_request = 0, True
        if self in self._by_last_request:
            del self._by_last_request[self]
            self._by_last_request[self] = None
        self._start_timer()

    def reset(self) -> None:
        """Close it at once."""
        self._by_last_request.pop(self, None)
        if self.transport is not None:
            self.transport.abort()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._deadline_seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        is_waiting_for_peer = self._head_bytes or not self._has_request
        if is_waiting_for_peer or (self.transport is not None and self.transport.get_write_buffer_size()):
            self.reset()
