"""The way to the services: httpx2's own transports, several small pools of connections for each route.

https://www.python-httpx.org/advanced/transports/
"""

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Final

import httpx2

from worker.dcs.send_tracker import SOCKET_OPTIONS

CONNECTIONS_PER_POOL: Final = 16
"""Each call looks at all the connections of its pool, twice: 64 of them cost as much as the call itself."""
LIMITS: Final = httpx2.Limits(keepalive_expiry=15.0)
"""Seconds below the idle limits of gateways, so that a kept connection is not closed as it is used. How many calls
there are at once is decided elsewhere: none of them waits here."""
RESET_ON_CLOSE: Final = (socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
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

    def __repr__(self) -> str:
        return f"<Pools: {[pool.busy for pool in self._pools]} busy>"

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. The pool counts as busy until the stream of the response is closed."""
        pool = min(self._pools, key=attrgetter("busy"), default=None)
        if pool is None or pool.busy >= CONNECTIONS_PER_POOL:
            pool = _Pool(self._new_pool())
            self._pools.append(pool)
        pool.busy += 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            if self._are_replaced:
                self._retire(pool)
            await pool.release()
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _CountedStream(response.stream, pool)
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        while self._pools:
            await self._pools.pop().transport.aclose()

    def _retire(self, pool: "_Pool") -> None:
        pool.is_retired = True
        with suppress(ValueError):
            self._pools.remove(pool)


class _Pool:
    """One pool of connections, with the number of calls on it."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self.transport = transport
        self.busy = 0
        self.is_retired = False

    async def release(self) -> None:
        """End a call; the last one on a retired pool closes it."""
        self.busy -= 1
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
