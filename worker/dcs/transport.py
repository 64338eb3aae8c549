"""The way to the services: httpx2's own transports, several small pools of connections for each route.

https://www.python-httpx.org/advanced/transports/
"""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from operator import attrgetter
from typing import Final

import httpx2

from worker.dcs.send_tracker import SOCKET_OPTIONS

CONNECTIONS_PER_POOL: Final = 2
"""Each call looks at all the connections of its pool, twice, and asks the kernel about each that is idle: 64 of them
would cost as much as the call itself."""
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

    def __repr__(self) -> str:
        return f"<ServiceTransport: directly {self._direct!r}, by proxy {list(self._proxied.values())!r}>"

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request on the route to its host."""
        to = (request.url.scheme, request.url.host)
        pools = self._routes.get(to) or self._routes.setdefault(to, self._route(*to))
        if pools is not self._direct:
            # httpcore2 applies a pool's own socket options to direct connections only.
            request.extensions.setdefault(SOCKET_OPTIONS, []).extend(self._options)
        return await pools.handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        for pools in (self._direct, *self._proxied.values()):
            await pools.aclose()

    def _route(self, scheme: str, host: str) -> "Pools":
        proxy = self._proxy_for(scheme, host)
        if proxy is None:
            return self._direct
        if (scheme, proxy) not in self._proxied:
            new_pool = partial(self._proxied_pool, proxy)
            self._proxied[scheme, proxy] = Pools(new_pool, are_replaced_after_failure=scheme == "https")
        return self._proxied[scheme, proxy]

    def _direct_pool(self) -> httpx2.AsyncBaseTransport:
        return httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=LIMITS, socket_options=self._options)

    def _proxied_pool(self, url: str) -> httpx2.AsyncBaseTransport:
        proxy = httpx2.Proxy(url, ssl_context=self._tls if url.startswith("https:") else None)
        return httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=LIMITS, proxy=proxy)


class Pools(httpx2.AsyncBaseTransport):
    """Several small pools behind one transport: a call goes to the least busy one."""

    def __init__(
        self, new_pool: Callable[[], httpx2.AsyncBaseTransport], *, are_replaced_after_failure: bool = False
    ) -> None:
        self._new_pool = new_pool
        # A CONNECT tunnel whose TLS handshake fails stays in httpcore2's pool for ever: the pool has to go.
        self._are_replaced = are_replaced_after_failure
        self._pools: list[_Pool] = []
        self._sweeping: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Pools: {[pool.busy for pool in self._pools]} busy>"

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. The pool counts as busy until the stream of the response is closed."""
        pool = min(self._pools, key=attrgetter("busy"), default=None)
        if pool is None or pool.busy >= CONNECTIONS_PER_POOL:
            pool = self._add()
        pool.busy += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            if self._are_replaced and pool in self._pools:
                self._pools.remove(pool)
                pool.is_retired = True
            await pool.release()
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _CountedStream(response.stream, pool)
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        while self._pools:
            await self._pools.pop().transport.aclose()
        await asyncio.gather(*self._closing)

    def _add(self) -> "_Pool":
        pool = _Pool(self._new_pool())
        self._pools.append(pool)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._sweep)
        return pool

    def _sweep(self) -> None:
        """Close pools that served no call for a while: their own limits hold only while they are used."""
        for pool in [pool for pool in self._pools if pool.has_expired()]:
            self._pools.remove(pool)
            task = asyncio.create_task(pool.transport.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._sweeping = None
        if self._pools:
            self._sweeping = asyncio.get_running_loop().call_later(KEEP_ALIVE_SECONDS, self._sweep)


class _Pool:
    """One pool of connections, with the number of calls on it."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self.transport = transport
        self.busy = 0
        self.is_retired = False
        self._idle_since = time.monotonic()

    def has_expired(self) -> bool:
        """True if no connection of it can still be used."""
        return not self.busy and time.monotonic() - self._idle_since >= KEEP_ALIVE_SECONDS

    async def release(self) -> None:
        """End a call; the last one on a retired pool closes it."""
        self.busy -= 1
        self._idle_since = time.monotonic()
        if self.is_retired and not self.busy:
            await self.transport.aclose()


class _CountedStream(httpx2.AsyncByteStream):
    """The stream of a response, which ends a call of its pool when it is closed."""

    def __init__(self, stream: httpx2.AsyncByteStream, pool: _Pool) -> None:
        self._stream = stream
        self._pool = pool
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
            await self._pool.release()
