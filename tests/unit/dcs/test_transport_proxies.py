"""Through a proxy: which calls go there, what its failures prove, and that each socket has its options."""

import asyncio
import base64
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore2
import httpx2
import pytest

from tests.unit.dcs.raw_server import (
    Play,
    allowed,
    an_order,
    calling,
    client_tls,
    created,
    http,
    reset,
    server_tls,
    serving,
)
from worker.config.urls import Proxies, SecretUrl
from worker.dcs.http_client import HttpClient, new_request
from worker.dcs.transport import ServiceTransport
from worker.policy.call_result import CallError, CallStatus, Evidence, TaskCreated
from worker.policy.freeze_detector import FreezeDetector

N, A = Evidence.NEVER_SENT, Evidence.AMBIGUOUS


class Tunnels:
    """A proxy that connects with whatever port of this machine it is asked for."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and its end."""
    try:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
    except ConnectionError:
        pass
    writer.close()


@asynccontextmanager
async def tunnelling() -> AsyncIterator[Tunnels]:
    """A proxy for CONNECT."""
    proxy = Tunnels()
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://user:p%40ss@127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listening.close()


def does(what: str) -> Play:
    """What a proxy does to a CONNECT."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        match what:
            case "swallows":
                await reader.read()
            case "closes":
                writer.close()
            case "resets":
                reset(writer)
            case "lies":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await reader.read(10)
                writer.write(http(400, b"no TLS"))
            case "hangs":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await reader.read()
            case _:
                writer.write(what.encode())

    return play


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("swallows", CallStatus.TIMEOUT),
        ("hangs", CallStatus.TIMEOUT),
        ("closes", CallStatus.CONNECTION_REFUSED),
        ("resets", CallStatus.CONNECTION_REFUSED),
        ("lies", CallStatus.CONNECTION_REFUSED),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", CallStatus.CONNECTION_REFUSED),
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", CallStatus.CONNECTION_REFUSED),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", CallStatus.CONNECTION_REFUSED),
    ],
)
async def test_tunnel_that_is_not_made_proves_that_nothing_was_sent(what: str, status: CallStatus) -> None:
    """A CONNECT is the proxy's business. Nor does what is left of it stand in the way of later calls."""
    async with serving(does(what)) as proxy, tunnelling() as good, serving(created("t-1"), tls=server_tls()) as service:
        used = [proxy.url]
        transport = ServiceTransport(client_tls(), 5, lambda *_: used[0])
        deadline = 0.2 if status is CallStatus.TIMEOUT else 5.0
        async with calling(service.url, deadline=deadline, transport=transport) as dcs:
            for _ in range(3):
                result = await dcs.create(an_order(), allowed)
                assert isinstance(result, CallError)
                assert (result.evidence, result.status) == (N, status), result
            assert service.requests == []
            # Nothing of the failures is kept: each of the three connections is gone.
            assert (
                repr(transport)
                == "<ServiceTransport: directly <Pools: 0 busy, 0 idle>, by proxy [<Pools: 0 busy, 0 idle>]>"
            )
            async with asyncio.timeout(5):
                await asyncio.gather(*proxy.serving)
        async with calling(service.url, proxy=good.url) as dcs:
            assert await dcs.create(an_order(), allowed) == TaskCreated("t-1")


async def test_tunnel_is_kept_and_its_credentials_are_sent() -> None:
    """One CONNECT for calls that follow each other."""
    async with (
        tunnelling() as proxy,
        serving(created("t-1"), created("t-2"), tls=server_tls()) as service,
        calling(service.url, proxy=proxy.url) as dcs,
    ):
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        assert await dcs.create(an_order("r-2"), allowed) == TaskCreated("t-2")
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % service.port)
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:p@ss") in head
    assert b"X-Auth-Token" not in head


async def test_tunnel_that_breaks_under_a_create_is_ambiguous() -> None:
    """What went through it may have arrived."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.close()

    async with (
        tunnelling() as proxy,
        serving(close, tls=server_tls()) as service,
        calling(service.url, proxy=proxy.url) as dcs,
    ):
        result = await dcs.create(an_order(), allowed)
    assert isinstance(result, CallError)
    assert (result.evidence, result.status, len(proxy.heads)) == (A, CallStatus.RESET, 1)


async def test_plain_calls_are_forwarded() -> None:
    """The proxy gets the whole URL; what it answers itself with 502 proves nothing."""
    async with (
        serving(created("t-1"), http(502, b"<html>")) as proxy,
        calling("http://dcs.test", proxy=proxy.url) as dcs,
    ):
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        result = await dcs.create(an_order("r-2"), allowed)
    assert proxy.requests[0].startswith(b"POST http://dcs.test/v2/p/migration/instance HTTP/1.1\r\n")
    assert isinstance(result, CallError)
    assert (result.evidence, result.http_status) == (A, 502)


async def test_proxy_serves_its_scheme_and_never_loopback() -> None:
    """By the settings of the usual variables."""
    proxies = Proxies({"https": SecretUrl("http://proxy.invalid:1")})
    async with serving(created("t-1"), tls=server_tls()) as service:
        transport = ServiceTransport(client_tls(), 5, proxies.proxy_for)
        async with calling(service.url, transport=transport) as dcs:
            assert await dcs.create(an_order(), allowed) == TaskCreated("t-1")
            assert repr(transport) == "<ServiceTransport: directly <Pools: 0 busy, 1 idle>, by proxy []>"
        transport = ServiceTransport(client_tls(), 5, proxies.proxy_for)
        async with calling("https://dcs.invalid", transport=transport) as dcs:
            result = await dcs.create(an_order(), allowed)
            assert isinstance(result, CallError)
            assert (
                repr(transport)
                == "<ServiceTransport: directly <Pools: 0 busy, 0 idle>, by proxy [<Pools: 0 busy, 0 idle>]>"
            )


@pytest.mark.parametrize("route", ["http", "https", "http by proxy", "https by proxy"])
async def test_each_socket_is_reset_on_close_and_given_up_at_the_deadline(route: str) -> None:
    """SO_LINGER (1, 0) and TCP_USER_TIMEOUT, read back from the connection that the call used."""
    is_encrypted = route.startswith("https")
    async with (
        tunnelling() as tunnels,
        serving(http(200, b"ok"), tls=server_tls() if is_encrypted else None) as service,
    ):
        proxy = None
        if route.endswith("proxy"):
            proxy = tunnels.url if is_encrypted else service.url
        transport = ServiceTransport(client_tls(), 7.5, lambda *_: proxy)
        client = HttpClient(transport, deadline=5, freeze_detector=FreezeDetector(lambda: 0.0))
        answer = await client.send(new_request("list", "GET", service.url))
        assert isinstance(answer, httpx2.Response)
        stream: httpcore2.AsyncNetworkStream = answer.extensions["network_stream"]
        used = stream.get_extra_info("socket")
        linger = used.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", linger) == (1, 0)
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert len(tunnels.heads) == (route == "https by proxy")
        await transport.aclose()
