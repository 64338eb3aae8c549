"""One HTTP/1.1 call over aiohttp's connections.

Connecting, TLS and parsing answers are aiohttp's; `pool` keeps connections. aiohttp's session is not used: a redirect,
a proxy, a cookie, a timeout or a body of unknown length is never wanted here, and every call would pay for them.
"""

import ssl
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from worker.dcs.evidence import Witness
from worker.dcs.message import REPLY_LIMIT, Reply, Request, TooLargeError
from worker.dcs.pool import Pool
from worker.dcs.wire import sent

SWITCHING: Final = 101


class Transport:
    """The wire to the services, to be used in one event loop, and closed by `aclose`."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._pool = Pool(tls)

    async def send(self, request: Request, witness: Witness) -> Reply:
        """Send a request and read its answer, which no redirect is followed for. Raises aiohttp's errors besides."""
        origin, target = _place(request.url)
        written = _written(request, target)
        connection = await self._pool.take(origin)
        try:
            handler = connection.protocol
            if handler is None or handler.transport is None:
                raise aiohttp.ServerDisconnectedError
            witness.connected()
            handler.transport.write(written)
            reply = await _read(handler)
        except BaseException:
            connection.close()
            raise
        self._pool.keep(origin, connection)
        return reply

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def _read(handler: ResponseHandler) -> Reply:
    answer, content = await handler.read()
    while answer.code < 200 and answer.code != SWITCHING:
        answer, content = await handler.read()
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
