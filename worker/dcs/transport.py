"""One HTTP/1.1 call over aiohttp's connections.

Connecting, TLS, keeping connections and parsing answers are aiohttp's. Its session is not used: a redirect, a proxy,
a cookie, a timeout or a body of unknown length is never wanted here, and every call would pay for them.
"""

import asyncio
import ssl
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from worker.dcs.evidence import Witness
from worker.dcs.message import REPLY_LIMIT, Reply, Request, TooLargeError
from worker.dcs.wire import sent

KEEP_ALIVE: Final = 15.0
"""Seconds; below the idle limits of gateways, so that a kept connection is not closed as it is used."""
SWITCHING: Final = 101
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)


class Transport:
    """The wire to the services: keeps connections that are sound, to be used in one event loop, closed by `aclose`.

    How many calls there are at once is the gate's business: nobody ever waits for a connection of somebody else.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._connector: aiohttp.TCPConnector | None = None
        self._origins: dict[URL, aiohttp.ClientRequest] = {}

    async def send(self, request: Request, witness: Witness) -> Reply:
        """Send a request and read its answer, which no redirect is followed for. Raises aiohttp's errors besides."""
        origin, target = _place(request.url)
        written = _written(request, target)
        connection = await self._connect(origin)
        is_clean = False
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                raise aiohttp.ServerDisconnectedError
            witness.connected()
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            protocol.transport.write(written)
            reply = await _read(protocol)
            is_clean = True
        finally:
            if is_clean:
                connection.release()
            else:
                connection.close()
        return reply

    async def _connect(self, origin: URL) -> Connection:
        if self._connector is None:
            self._connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=KEEP_ALIVE)
        wanted = self._origins.get(origin)
        if wanted is None:
            wanted = aiohttp.ClientRequest("GET", origin, loop=asyncio.get_running_loop())
            self._origins[origin] = wanted
        while True:
            connection = await self._connector.connect(wanted, [], _NO_TIMEOUT)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            # What came while nobody had asked must not be taken for the answer to what is asked next.
            connection.close()

    async def aclose(self) -> None:
        """Close every connection."""
        if self._connector is not None:
            await self._connector.close()


async def _read(protocol: ResponseHandler) -> Reply:
    answer, content = await protocol.read()
    while answer.code < 200 and answer.code != SWITCHING:
        answer, content = await protocol.read()
    body = await content.readany()
    while not content.at_eof() and len(body) <= REPLY_LIMIT:
        body += await content.readany()
    if len(body) > REPLY_LIMIT:
        raise TooLargeError(f"the reply is larger than {REPLY_LIMIT} bytes")
    return Reply(answer.code, answer.headers, body)


@lru_cache(maxsize=1024)
def _place(url: str) -> tuple[URL, str]:
    """Whom to connect to, and what to ask for."""
    whole = URL(sent(url), encoded=True)
    return whole.origin(), whole.raw_path_qs


def _written(request: Request, target: str) -> bytes:
    """The request as it goes over the wire. Raises ValueError for a header that would be more than one line."""
    content = request.content
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if content or request.method != "GET":
        lines.append(f"Content-Length: {len(content)}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
        raise ValueError("a header has a line break or a NUL in it")
    return b"%b\r\n\r\n%b" % (head.encode(), content)


def transport(ca_file: str | None) -> Transport:
    """A transport, to be closed by `aclose`. Certificates: `ca_file`, else the system's."""
    return Transport(ssl.create_default_context(cafile=ca_file))
