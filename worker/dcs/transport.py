"""HTTP transport to the services: httpx2's own transports, one for each connection, on each route.

https://www.python-httpx.org/advanced/transports/
"""

import asyncio
import socket
import ssl
import struct
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from functools import partial
from operator import itemgetter
from typing import Final

import httpx2

from worker.dcs.send_tracker import SOCKET_OPTIONS

KEEP_ALIVE_SECONDS: Final = 15.0
"""Below the idle limits of gateways, so that a kept connection is not closed as it is used."""
LIMITS: Final = httpx2.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS)
"""How many calls there are at once is decided elsewhere: none of them waits here."""
RESET_ON_CLOSE: Final = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""Closing discards what the peer has not acknowledged: a create that was abandoned must not arrive late."""

ProxyFor = Callable[[str, str], str | None]
"""The URL of the proxy for calls with this scheme to this host; None: none."""


def no_proxy(_scheme: str, _host: str) -> None:
    """Every call goes directly."""


class ServiceTransport(httpx2.AsyncBaseTransport):
    """Sends requests directly or through a proxy, over connections that are kept between calls.

    `deadline`: seconds after which the kernel, too, gives up what a peer does not acknowledge.
    """

    def __init__(self, tls: ssl.SSLContext, deadline: float, proxy_for: ProxyFor = no_proxy) -> None:
        self._tls = tls
        self._proxy_for = proxy_for
        self._options = (RESET_ON_CLOSE, (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(deadline * 1000)))
        self._direct = Pools(self._direct_pool)
        self._proxied: dict[tuple[str, str], Pools] = {}
        self._routes: dict[tuple[str, str], Pools] = {}
        self._former: list[Pools] = []

    def use(self, tls: ssl.SSLContext, proxy_for: ProxyFor) -> None:
        """Make connections with these from now on. Those that are open serve no further call, and close when idle."""
        self._former = [pools for pools in (*self._former, self._direct, *self._proxied.values()) if pools.is_open]
        self._tls, self._proxy_for = tls, proxy_for
        self._direct, self._proxied, self._routes = Pools(self._direct_pool), {}, {}

    def __repr__(self) -> str:
        return f"<ServiceTransport: directly {self._direct!r}, by proxy {list(self._proxied.values())!r}>"

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request on the route to its host."""
        to = (request.url.scheme, request.url.host)
        if request.url.host.endswith("."):  # certificates have a fully qualified name without its dot
            request.extensions["sni_hostname"] = request.url.host.rstrip(".")
        pools = self._routes.get(to) or self._routes.setdefault(to, self._route(*to))
        if pools is not self._direct:
            # httpcore2 applies a pool's own socket options to direct connections only.
            request.extensions.setdefault(SOCKET_OPTIONS, []).extend(self._options)
        return await pools.handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        for pools in (*self._former, self._direct, *self._proxied.values()):
            await pools.aclose()

    def _route(self, scheme: str, host: str) -> "Pools":
        proxy = self._proxy_for(scheme, host)
        if proxy is None:
            return self._direct
        if (scheme, proxy) not in self._proxied:
            self._proxied[scheme, proxy] = Pools(partial(self._proxied_pool, proxy))
        return self._proxied[scheme, proxy]

    def _direct_pool(self) -> httpx2.AsyncBaseTransport:
        return httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=LIMITS, socket_options=self._options)

    def _proxied_pool(self, url: str) -> httpx2.AsyncBaseTransport:
        proxy = httpx2.Proxy(url, ssl_context=self._tls if url.startswith("https:") else None)
        return httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=LIMITS, proxy=proxy)


class Pools(httpx2.AsyncBaseTransport):
    """Many pools behind one transport, each for one call at a time: so a pool has one connection for each host.

    A call costs the same however many connections there are: httpcore2 looks at every connection of a pool twice for
    each call, and asks the kernel about each that is idle, which with 64 of them cost as much as the call itself.
    """

    def __init__(self, new_pool: Callable[[], httpx2.AsyncBaseTransport]) -> None:
        self._new_pool = new_pool
        self._open: set[httpx2.AsyncBaseTransport] = set()
        # The pool that was used last is used next: the others become old enough to be closed, the oldest in front.
        self._idle: list[tuple[float, httpx2.AsyncBaseTransport]] = []
        self._sweeping: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Pools: {len(self._open) - len(self._idle)} busy, {len(self._idle)} idle>"

    @property
    def is_open(self) -> bool:
        """Whether there are pools: busy ones, or idle ones that are not closed yet."""
        return bool(self._open)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Its pool is busy until the stream of the response is closed."""
        pool = self._idle.pop()[1] if self._idle else self._add()
        try:
            response = await pool.handle_async_request(request)
        except BaseException:
            # Not used again: a CONNECT tunnel whose TLS handshake fails stays in httpcore2's pool for ever.
            self._open.discard(pool)
            await pool.aclose()
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _PooledStream(response.stream, partial(self._release, pool))
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        self._idle.clear()
        while self._open:
            await self._open.pop().aclose()
        await asyncio.gather(*self._closing)

    def _add(self) -> httpx2.AsyncBaseTransport:
        pool = self._new_pool()
        self._open.add(pool)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._sweep)
        return pool

    def _release(self, pool: httpx2.AsyncBaseTransport) -> None:
        if pool in self._open:
            self._idle.append((time.monotonic(), pool))

    def _sweep(self) -> None:
        """Close pools that served no call for a while: their own limits hold only while they are used."""
        expired = bisect_right(self._idle, time.monotonic() - KEEP_ALIVE_SECONDS, key=itemgetter(0))
        for _, pool in self._idle[:expired]:
            self._open.discard(pool)
            task = asyncio.create_task(pool.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        del self._idle[:expired]
        self._sweeping = None
        if self._open:
            self._sweeping = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._sweep)


class _PooledStream(httpx2.AsyncByteStream):
    """The stream of a response, which releases its pool when it is closed."""

    def __init__(self, stream: httpx2.AsyncByteStream, release: Callable[[], None]) -> None:
        self._stream = stream
        self._release = release
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        """Close the stream."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._stream.aclose()
        finally:
            self._release()
