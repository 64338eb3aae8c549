"""Connections: kept between calls, never believed further than they can be, each for one call at a time."""

import asyncio
import socket
import ssl
from typing import Any, ClassVar

import httpx2
import pytest
import uvloop

from tests.unit.dcs.raw_server import (
    EMPTY_PAGE,
    allowed,
    an_order,
    calling,
    client_tls,
    created,
    http,
    server_tls,
    serving,
    until,
)
from worker.dcs import transport as transport_module
from worker.dcs.http_client import ANSWER_LIMIT, HttpClient, new_request
from worker.dcs.transport import Pools, ServiceTransport, no_proxy
from worker.policy.call_result import CallError, CallStatus, Evidence, TaskCreated, TaskNotFound
from worker.policy.freeze_detector import FreezeDetector

LATE = http(408)


async def test_dot_of_a_fully_qualified_name_is_not_in_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the dot a resolver does not append search domains; certificates and SNI have none."""
    if isinstance(asyncio.get_running_loop(), uvloop.Loop):
        pytest.skip("it resolves without Python")
    resolve = socket.getaddrinfo

    def getaddrinfo(host: bytes | str, *args: Any, **options: Any) -> Any:
        assert host in (b"localhost.", "localhost.")
        return resolve("127.0.0.1", *args, **options)

    async with serving(created("t-1"), tls=server_tls()) as server:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        async with calling(f"https://localhost.:{server.port}") as dcs:
            assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")


async def test_connection_is_kept() -> None:
    """One for calls that follow each other, and nothing that httpx2 would add goes out with them."""
    async with serving(created("t-1"), created("t-2")) as server, calling(server.url) as dcs:
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        assert await dcs.create(an_order("r-2"), allowed) == TaskCreated("t-2")
        assert len(server.connections) == 1
        head = server.requests[0].partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert head == [
            b"POST /v2/p/migration/instance HTTP/1.1",
            b"Host: " + server.url.removeprefix("http://").encode(),
            b"Content-Type: application/json",
            b"Accept: application/json",
            b"Accept-Encoding: identity",
            b"User-Agent: dcs-migration-worker",
            b"Content-Length: %d" % len(an_order("r-1").body),
            b"X-Auth-Token: token",
        ]


@pytest.mark.parametrize("late", [LATE, http(400, b"bad"), b"garbage", b""])
async def test_connection_on_which_something_came_unasked_is_not_used_again(late: bytes) -> None:
    """A gateway tells an idle connection that it timed out, or closes it: the next call goes by another one."""
    async with serving(created("t-1"), created("t-2")) as server, calling(server.url) as dcs:
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        server.connections[0].write(late)
        if not late:
            server.connections[0].close()
        await asyncio.sleep(0.01)
        assert await dcs.create(an_order("r-2"), allowed) == TaskCreated("t-2")
        assert (len(server.connections), server.creates) == (2, 2)


async def test_oversized_answer_closes_its_connection() -> None:
    """What is left of it must not be read as the next answer."""
    async with serving(http(200, b"x" * 4 * ANSWER_LIMIT), created("t-2")) as server, calling(server.url) as dcs:
        result = await dcs.create(an_order("r-1"), allowed)
        assert isinstance(result, CallError)
        assert result.status is CallStatus.OVERSIZE
        assert await dcs.create(an_order("r-2"), allowed) == TaskCreated("t-2")
        assert len(server.connections) == 2


@pytest.mark.parametrize("status", [500, 502, 504, 200, 408])
async def test_ambiguous_answer_to_a_create_closes_its_connection(status: int) -> None:
    """It may have been another call's: its own could still come, and be believed to be that of the next create."""
    async with serving(http(status, b"<html>"), created("t-2")) as server, calling(server.url) as dcs:
        result = await dcs.create(an_order("r-1"), allowed)
        assert isinstance(result, CallError)
        assert (result.evidence, result.http_status) == (Evidence.AMBIGUOUS, status)
        assert await dcs.create(an_order("r-2"), allowed) == TaskCreated("t-2")
        assert len(server.connections) == 2


async def test_failed_look_up_keeps_its_connection() -> None:
    """An answer to a look-up creates nothing, whomever it is for."""
    async with serving(http(500), http(200, EMPTY_PAGE)) as server, calling(server.url) as dcs:
        assert isinstance(await dcs.find(an_order(), 0.0), CallError)
        assert await dcs.find(an_order(), 0.0) == TaskNotFound()
        assert len(server.connections) == 1


async def test_cookies_are_not_kept_and_redirects_not_followed() -> None:
    """Neither from a success nor from a refusal."""
    moved = http(307, b"", b"Location: /v2/p/elsewhere", b"Set-Cookie: a=b")
    async with serving(created("t-1", b"Set-Cookie: a=b; Path=/"), moved, created("t-3")) as server:
        async with calling(server.url) as dcs:
            for number in range(3):
                await dcs.create(an_order(f"r-{number}"), allowed)
        assert len(server.requests) == 3
        assert b"cookie" not in b"".join(server.requests).lower()
        assert b"elsewhere" not in b"".join(server.requests)


async def test_body_is_read_as_it_was_sent() -> None:
    """A content encoding, right or wrong, is not decoded."""
    encoded = http(200, b"\x1f\x8bnot really", b"Content-Encoding: gzip")
    transport = httpx2.AsyncHTTPTransport()
    async with serving(encoded) as server, transport:
        client = HttpClient(transport, deadline=5, freeze_detector=FreezeDetector(lambda: 0.0))
        answer = await client.send(new_request("list", "GET", server.url))
        assert isinstance(answer, httpx2.Response)
        assert answer.content == b"\x1f\x8bnot really"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
async def test_header_is_one_line(value: str) -> None:
    """Else nothing is sent."""
    transport = httpx2.AsyncHTTPTransport()
    async with serving(created("t-1")) as server, transport:
        client = HttpClient(transport, deadline=5, freeze_detector=FreezeDetector(lambda: 0.0))
        answer = await client.send(new_request("create", "POST", server.url, {"X-Auth-Token": value}, b"{}"))
        assert isinstance(answer, CallError)
        assert server.requests == []


async def test_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is below what gateways allow."""
    assert transport_module.LIMITS.keepalive_expiry == transport_module.KEEP_ALIVE_SECONDS == 15.0
    monkeypatch.setattr(transport_module, "LIMITS", httpx2.Limits(keepalive_expiry=0.05))
    async with serving(created("t-1"), created("t-2")) as server, calling(server.url) as dcs:
        await dcs.create(an_order("r-1"), allowed)
        await asyncio.sleep(0.1)
        await dcs.create(an_order("r-2"), allowed)
        assert len(server.connections) == 2


class Held(httpx2.AsyncBaseTransport):
    """A pool of connections whose answers end when told."""

    made: ClassVar[list["Held"]] = []

    def __init__(self) -> None:
        self.calls = 0
        self.is_closed = False
        self.made.append(self)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer, or fail."""
        self.calls += 1
        if request.method == "PUT":
            raise httpx2.ConnectError("no")
        return httpx2.Response(200, stream=httpx2.ByteStream(b"ok"))

    async def aclose(self) -> None:
        """Close."""
        self.is_closed = True


@pytest.fixture
def pools_made(monkeypatch: pytest.MonkeyPatch) -> list[Held]:
    """Every pool that is made."""
    made: list[Held] = []
    monkeypatch.setattr(Held, "made", made)
    return made


GET, PUT = httpx2.Request("GET", "http://h/"), httpx2.Request("PUT", "http://h/")


async def test_pool_serves_one_call_until_the_stream_of_its_answer_is_closed(pools_made: list[Held]) -> None:
    """Read to its end is not closed yet. Closed twice is closed once."""
    pools = Pools(Held)
    first, second = [await pools.handle_async_request(GET) for _ in range(2)]
    assert [part async for part in second.stream] == [b"ok"]  # type: ignore[union-attr]
    await pools.handle_async_request(GET)
    assert [pool.calls for pool in pools_made] == [1, 1, 1]
    await second.aclose()
    await second.aclose()
    for _ in range(2):
        await pools.handle_async_request(GET)
    assert [pool.calls for pool in pools_made] == [1, 2, 1, 1]
    await first.aclose()
    assert repr(pools) == "<Pools: 3 busy, 1 idle>"
    await pools.aclose()
    assert all(pool.is_closed for pool in pools_made)


async def test_pool_that_was_used_last_is_used_next(pools_made: list[Held]) -> None:
    """So that the others are closed once fewer calls are made at a time."""
    pools = Pools(Held)
    answers = [await pools.handle_async_request(GET) for _ in range(3)]
    for answer in answers:
        await answer.aclose()
    for _ in range(5):
        await (await pools.handle_async_request(GET)).aclose()
    assert [pool.calls for pool in pools_made] == [1, 1, 6]


async def test_pool_whose_call_failed_is_not_used_again(pools_made: list[Held]) -> None:
    """Here httpcore2 would keep a broken tunnel for ever. Other pools stay."""
    pools = Pools(Held)
    answers = [await pools.handle_async_request(GET) for _ in range(2)]
    await answers[0].aclose()
    with pytest.raises(httpx2.ConnectError):
        await pools.handle_async_request(PUT)
    assert [pool.is_closed for pool in pools_made] == [True, False]
    await answers[1].aclose()
    await pools.handle_async_request(GET)
    assert [pool.calls for pool in pools_made] == [2, 2]


async def test_pool_that_is_no_longer_used_is_closed(pools_made: list[Held], monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it keeps: nothing else would look at its connections."""
    monkeypatch.setattr(transport_module, "KEEP_ALIVE_SECONDS", 0.05)
    pools = Pools(Held)
    first, second = [await pools.handle_async_request(GET) for _ in range(2)]
    await second.aclose()
    await until(lambda: pools_made[1].is_closed)
    assert not pools_made[0].is_closed
    await first.aclose()
    await until(lambda: pools_made[0].is_closed)
    await (await pools.handle_async_request(GET)).aclose()
    assert len(pools_made) == 3
    await pools.aclose()


async def test_answer_that_ends_after_closing_keeps_no_pool(pools_made: list[Held]) -> None:
    """Everything is closed by then."""
    pools = Pools(Held)
    answer = await pools.handle_async_request(GET)
    await pools.aclose()
    await answer.aclose()
    assert repr(pools) == "<Pools: 0 busy, 0 idle>"
    assert pools_made[0].is_closed


async def test_connections_follow_certificates_and_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call under way ends on its connection; the next one does not use it, and it is closed."""
    monkeypatch.setattr(transport_module, "KEEP_ALIVE_SECONDS", 0.05)
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.take(b"P", reader)
        is_asked.set()
        await may_answer.wait()
        writer.write(created("t-1"))

    transport = ServiceTransport(client_tls(), 5)
    async with (
        serving(slow, created("t-2"), tls=server_tls()) as server,
        serving(created("t-3")) as proxy,
        calling(server.url, transport=transport) as dcs,
    ):
        under_way = asyncio.create_task(dcs.create(an_order("r-1"), allowed))
        await is_asked.wait()
        transport.use(ssl.create_default_context(), no_proxy)
        may_answer.set()
        assert await under_way == TaskCreated("t-1")
        refused = await dcs.create(an_order("r-2"), allowed)
        assert isinstance(refused, CallError)
        assert "certificate" in refused.message
        transport.use(client_tls(), no_proxy)
        assert await dcs.create(an_order("r-2"), allowed) == TaskCreated("t-2")
        transport.use(client_tls(), lambda *_: proxy.url)
        async with calling("http://dcs.invalid", transport=transport) as by_proxy:
            assert await by_proxy.create(an_order("r-3"), allowed) == TaskCreated("t-3")
            assert proxy.requests[0].startswith(b"POST http://dcs.invalid/")
            await until(lambda: all(writer.is_closing() for writer in server.connections))


async def test_connections_of_former_certificates_are_closed_at_the_end() -> None:
    """Those that were not idle for long enough are closed with the others."""
    async with serving(created("t-1"), tls=server_tls()) as server:
        transport = ServiceTransport(client_tls(), 5)
        async with calling(server.url, transport=transport) as dcs:
            assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
            transport.use(client_tls(), no_proxy)
        await until(server.connections[0].is_closing)
