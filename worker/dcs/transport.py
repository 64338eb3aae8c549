"""One HTTP call over aiohttp, for whoever speaks httpx.

The transport that httpx-aiohttp brings, without what every call would pay for: a redirect, a proxy, a cookie or a
timeout of its own is never wanted here, and the URL of a project comes again and again.
"""

import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import map_aiohttp_exceptions
from multidict import CIMultiDict
from yarl import URL

from worker.dcs.evidence import WitnessConnector
from worker.dcs.wire import sent

KEEP_ALIVE: Final = 15.0
"""Seconds; below the idle limits of gateways, so that a kept connection is not closed as it is used."""


class Transport(AiohttpTransport):
    """Header names go out as they were written: what logs and strict gateways at the other end expect."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose content is at hand; the answer's content is still to be read."""
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        headers = CIMultiDict([(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw])
        url, content = _sent(str(request.url)), request.content or None
        try:
            answer = await self.client.request(
                request.method, url, headers=headers, data=content, allow_redirects=False
            )
        except Exception:
            with map_aiohttp_exceptions():
                raise
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Content(answer))


class _Content(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._answer.content.readany():
                yield chunk
        except Exception:
            with map_aiohttp_exceptions():
                raise

    async def aclose(self) -> None:
        self._answer.release()


@lru_cache(maxsize=1024)
def _sent(url: str) -> URL:
    return URL(sent(url), encoded=True)


def transport(ca_file: str | None) -> Transport:
    """A transport, to be closed by `aclose`. Certificates: `ca_file`, else the system's.

    How many calls there are at once is the gate's business, so the connector sets no limit of its own:
    nobody ever waits inside it.
    """
    verify = ssl.create_default_context(cafile=ca_file)

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=WitnessConnector(limit=0, ssl=verify, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )

    return Transport(verify=verify, client=session)
