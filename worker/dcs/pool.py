"""Connections that are kept between calls, so that the next one finds everything ready: its parser too."""

import asyncio
import ssl
from collections import deque
from typing import Final

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

KEEP_ALIVE: Final = 15.0
"""Seconds; below the idle limits of gateways, so that a kept connection is not closed as it is used."""
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)


class Pool:
    """Connections by origin, made by aiohttp. How many there are at once is the gate's business: nobody waits here."""

    def __init__(self, tls: ssl.SSLContext, keep_alive: float = KEEP_ALIVE) -> None:
        self._tls = tls
        self._keep_alive = keep_alive
        self._connector: aiohttp.TCPConnector | None = None
        self._wanted: dict[URL, aiohttp.ClientRequest] = {}
        self._idle: dict[URL, deque[tuple[Connection, float]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Pool: {sum(map(len, self._idle.values()))} idle>"

    async def take(self, origin: URL) -> Connection:
        """A connection that is sound and has nothing left of an earlier call: the one that was used last, or a new one.

        Raises aiohttp's ClientConnectionError.
        """
        idle = self._idle.get(origin)
        while idle:
            connection, since = idle.pop()
            if is_sound(connection) and asyncio.get_running_loop().time() - since < self._keep_alive:
                return connection
            connection.close()
        return await self._new(origin)

    def keep(self, origin: URL, connection: Connection) -> None:
        """Give back a connection whose call is over; it is closed if it cannot be used again."""
        if not is_sound(connection):
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.setdefault(origin, deque()).append((connection, loop.time()))
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._keep_alive, self._sweep)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            while idle:
                idle.pop()[0].close()
        if self._connector is not None:
            await self._connector.close()

    async def _new(self, origin: URL) -> Connection:
        if self._connector is None:
            self._connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, force_close=True)
        wanted = self._wanted.get(origin)
        if wanted is None:
            wanted = aiohttp.ClientRequest("GET", origin, loop=asyncio.get_running_loop())
            self._wanted[origin] = wanted
        connection = await self._connector.connect(wanted, [], _NO_TIMEOUT)
        assert connection.protocol is not None  # it is not closed yet
        connection.protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        if not is_sound(connection):
            connection.close()
            raise aiohttp.ServerDisconnectedError("the service spoke before it was asked")
        return connection

    def _sweep(self) -> None:
        """Close what nobody has used for long."""
        loop = asyncio.get_running_loop()
        for idle in self._idle.values():
            while idle and loop.time() - idle[0][1] >= self._keep_alive:
                idle.popleft()[0].close()
        oldest = min((idle[0][1] for idle in self._idle.values() if idle), default=None)
        self._sweeping = None if oldest is None else loop.call_at(oldest + self._keep_alive, self._sweep)


def is_sound(connection: Connection) -> bool:
    """Whether the next answer on it can only be one to the next call.

    What came while nobody had asked, a gateway's 408 say, must not be taken for the answer to what is asked next.
    """
    handler = connection.protocol
    return handler is not None and handler.is_connected() and not handler.should_close
