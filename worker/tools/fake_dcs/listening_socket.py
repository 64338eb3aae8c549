"""The socket that the fake DCS listens on, and how it refuses connections without losing its port."""

import asyncio
import socket

from aiohttp import web


class ListeningSocket:
    """One address. While the door is closed connections are refused, yet nobody else can get the port.

    Raises OSError when the address cannot be had.
    """

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        self._runner = runner
        self._socket = _bound((host, port))
        self._address: tuple[str, int] = self._socket.getsockname()[:2]
        self._site: web.SockSite | None = None

    def __repr__(self) -> str:
        return f"<Door {self.url} {'open' if self._site else 'closed'}>"

    @property
    def url(self) -> str:
        """The address as a URL without a trailing slash."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def open(self) -> None:
        """Accept connections."""
        if self._site is None:
            site = web.SockSite(self._runner, self._socket, backlog=1024)
            await site.start()
            self._site = site

    async def close(self, except_connection: asyncio.BaseTransport | None = None) -> None:
        """Refuse connections and break the present ones, as when a machine dies, but the one to spare."""
        if self._site is None:
            return
        await self._site.stop()
        self._site = None
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None and connection.transport is not except_connection:
                connection.transport.abort()
        self._socket = await _bound_again(self._address)

    def release(self) -> None:
        """Give the port back; the runner is stopped by now."""
        self._socket.close()


async def _bound_again(address: tuple[str, int]) -> socket.socket:
    # Not every event loop has closed the listening socket by the time it says so.
    for _ in range(50):
        try:
            return _bound(address)
        except OSError:
            await asyncio.sleep(0.02)
    return _bound(address)


def _bound(address: tuple[str, int]) -> socket.socket:
    family, kind, protocol, _, resolved = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(resolved)
    except OSError:
        bound.close()
        raise
    return bound
