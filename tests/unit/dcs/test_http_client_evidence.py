"""What each ending of a create proves, against a server that does its worst byte by byte."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.unit.dcs.raw_server import (
    Play,
    RawServer,
    allowed,
    an_order,
    calling,
    created,
    http,
    reset,
    server_tls,
    serving,
    until,
)
from worker.dcs.http_client import ANSWER_LIMIT
from worker.dcs.transport import ServiceTransport
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence, TaskCreated

A, N, R = Evidence.AMBIGUOUS, Evidence.NEVER_SENT, Evidence.REFUSED
OK = created("t-1")


async def create(url: str, deadline: float = 5.0, proxy: str | None = None) -> TaskCreated | CallError:
    """How a create ends."""
    async with calling(url, deadline=deadline, proxy=proxy) as dcs:
        return await dcs.create(an_order(), allowed)


def ends(how: str, after: int | None = None) -> Play:
    """Read so many further bytes of a request (None: all of its head, and a bit), then end the connection."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after is None:
            await reader.readuntil(b"\r\n\r\n{")
        elif after:
            await reader.readexactly(after)
        if how == "half-close":
            writer.write_eof()
            await reader.read()
        elif how == "reset":
            reset(writer)
        else:
            writer.close()

    return play


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("after", [0, 10, None], ids=["at once", "in the head", "in the body"])
async def test_connection_that_ends_while_a_create_is_sent_is_ambiguous(how: str, after: int | None) -> None:
    """Closed, half closed or reset, wherever in the request: it may have been read, and is not sent again."""
    async with serving(ends(how, after)) as server:
        result = await create(server.url)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status) == (A, CallStatus.RESET)
        assert len(server.connections) == 1


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
async def test_kept_connection_that_ends_as_the_next_create_is_sent_is_ambiguous(how: str) -> None:
    """The same on a connection that has served a call before: it is not repeated on another one."""
    async with serving(OK, ends(how, 0), created("t-2")) as server, calling(server.url) as dcs:
        assert isinstance(await dcs.create(an_order("r-1"), allowed), TaskCreated)
        result = await dcs.create(an_order("r-2"), allowed)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status) == (A, CallStatus.RESET)
        assert (len(server.connections), server.creates) == (1, 1)


async def test_connection_that_ends_as_it_is_made_is_never_worse_than_ambiguous() -> None:
    """Closed right after accept: whether the request was sent by then is chance; one connection is all there is."""

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with serving(OK, on_connect=close) as server:
        result = await create(server.url)
        assert isinstance(result, CallError)
        assert result.evidence in (A, N)
        assert (len(server.connections), server.creates) == (1, 0)


MAX_NUMBER = http(200, b"x" * 2 * ANSWER_LIMIT)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\n{}", CallStatus.TIMEOUT),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", CallStatus.TIMEOUT),
        (MAX_NUMBER, CallStatus.OVERSIZE),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2 * ANSWER_LIMIT, CallStatus.OVERSIZE),
        (b"no HTTP at all\r\n\r\n", CallStatus.RESET),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", CallStatus.RESET),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", CallStatus.RESET),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", CallStatus.RESET),
        (b"HTTP/1.1 200 OK\r\nX-N\xc3\xa4me: v\r\nContent-Length: 0\r\n\r\n", CallStatus.RESET),
        (b"HTTP/1.1 200 OK\r\nX-Name: a\0b\r\nContent-Length: 0\r\n\r\n", CallStatus.RESET),
        (b"HTTP/1.1 200 OK\r\nX-Name: a\rb\r\nContent-Length: 0\r\n\r\n", CallStatus.RESET),
        (b"HTTP/1.1 200 OK\r\nX-Name: " + b"x" * 300_000 + b"\r\n\r\n", CallStatus.RESET),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", CallStatus.RESET),
        (http(200, b"<html>"), CallStatus.ANSWERED),
        (http(200, b"\xff\xfe{"), CallStatus.ANSWERED),
        (http(204), CallStatus.ANSWERED),
        (http(302, b"", b"Location: /elsewhere"), CallStatus.ANSWERED),
        (http(302, b"", b"Location: http://[\xff"), CallStatus.ANSWERED),
        (http(408), CallStatus.ANSWERED),
        (http(502, b"bad"), CallStatus.ANSWERED),
    ],
)
async def test_answer_that_says_nothing_is_ambiguous(answer: bytes, status: CallStatus) -> None:
    """Cut, too large, no HTTP, or without an id: whatever it is, the create was sent once and may have worked."""
    async with serving(answer) as server:
        result = await create(server.url, deadline=0.3 if status is CallStatus.TIMEOUT else 5.0)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status, server.creates) == (A, status, 1), result


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"inst\r\n10\r\nance_id":"t-1"}\n\r\n0\r\n\r\n',
        created("t-1", b"Content-Encoding: gzip"),
        created("t-1", b"Content-Encoding: nonsense"),
        created("t-1", b"X-Subject-Token: " + b"x" * 99_000),
        created("t-1", *(b"X-H-%d: %b" % (number, b"y" * 90) for number in range(950))),
        created("t-1", b"X-Latin: \xe4\xff\xfe", b"X-Request-Id: \xff\xfe"),
        OK.replace(b" Reason", b" \xff\xfe\xe4"),
        OK.replace(b" Reason", b""),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_answer_of_odd_form_is_read(answer: bytes) -> None:
    """1xx before it, chunks, encodings that are not there, heads of 99 kB, bytes that are no UTF-8."""
    async with serving(answer) as server:
        result = await create(server.url)
        assert isinstance(result, TaskCreated), result
        assert result.instance_id == "t-1"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"instance_id":"t-1"}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n{"instance_id":"t-1"}\r\n',
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_answer_that_is_cut_is_ambiguous(answer: bytes) -> None:
    """The connection ends before the answer does."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer)
        writer.close()

    async with serving(play) as server:
        result = await create(server.url)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status, len(server.connections)) == (A, CallStatus.RESET, 1)


async def test_answer_until_the_connection_ends_is_read() -> None:
    """Without a length its end is that of the connection."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"instance_id":"t-1"}')
        writer.close()

    async with serving(play) as server:
        assert await create(server.url) == TaskCreated("t-1")


async def test_refusal_with_bytes_that_are_no_text_is_a_refusal() -> None:
    """In the reason, in X-Request-Id and in the body: rejected after one create."""
    body = b'{"error_code":"DCS.4013","error_msg":"name \xff\xfe is wrong"}'
    async with serving(http(400, body, b"X-Request-Id: \xff\xfe", reason=b"\xff")) as server:
        result = await create(server.url)
        assert isinstance(result, CallError)
        assert (result.evidence, result.kind, server.creates) == (R, ErrorKind.REJECTED, 1)
        assert result.dcs_request_id == "ÿþ"
        assert "name" in (result.error_msg or "")


async def test_body_that_cannot_be_written_whole_may_have_been_sent() -> None:
    """A server that reads nothing: the deadline passes with the body in some buffer."""

    async def never(_: object, writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed()

    async with serving(OK, on_connect=never) as server:
        result = await create(server.url, deadline=0.2)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status) == (A, CallStatus.TIMEOUT)


# Before anything was sent


@contextmanager
def swallowing(address: str) -> Iterator[int]:
    """A port on which no connection is ever made, and none refused: its backlog is full."""
    with socket.socket() as listening:
        listening.bind((address, 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((address, port))
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


async def test_connection_that_is_refused_proves_that_nothing_was_sent() -> None:
    """Nobody listens."""
    result = await create("http://127.0.0.1:1")
    assert isinstance(result, CallError)
    assert (result.evidence, result.status) == (N, CallStatus.CONNECTION_REFUSED)
    assert "Errno 111" in result.message, result.message


async def test_connection_that_is_never_made_proves_that_nothing_was_sent() -> None:
    """The deadline passes while connecting."""
    with swallowing("127.0.0.1") as port:
        result = await create(f"http://127.0.0.1:{port}", deadline=0.2)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status) == (N, CallStatus.TIMEOUT)


async def test_name_that_is_unknown_proves_that_nothing_was_sent() -> None:
    """DNS fails."""
    result = await create("http://does-not-exist.invalid")
    assert isinstance(result, CallError)
    assert (result.evidence, result.status) == (N, CallStatus.CONNECTION_REFUSED)
    assert "Name or service not known" in result.message or "name resolution" in result.message, result.message


async def test_tls_to_a_plain_port_proves_that_nothing_was_sent() -> None:
    """The handshake is answered with something else."""

    async def speak(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(http(400, b"plain HTTP"))

    async with serving(OK, on_connect=speak) as server:
        server.scheme = "https"
        result = await create(server.url)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status) == (N, CallStatus.CONNECTION_REFUSED)


async def test_certificate_that_is_not_trusted_proves_that_nothing_was_sent() -> None:
    """Of an authority that is none of the system's."""
    transport = ServiceTransport(ssl.create_default_context(), 5)
    async with serving(OK, tls=server_tls()) as server, calling(server.url, transport=transport) as dcs:
        result = await dcs.create(an_order(), allowed)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status, server.requests) == (N, CallStatus.CONNECTION_REFUSED, [])
        assert "certificate verify failed" in result.message, result.message


async def test_handshake_that_never_ends_proves_that_nothing_was_sent() -> None:
    """The deadline passes in TLS; the socket does not stay behind."""

    async def never(reader: asyncio.StreamReader, _: object) -> None:
        try:
            await reader.read()
        finally:
            ended.set()

    ended = asyncio.Event()
    async with serving(OK, on_connect=never) as server:
        server.scheme = "https"
        async with calling(server.url, deadline=0.2) as dcs:
            result = await dcs.create(an_order(), allowed)
            assert isinstance(result, CallError)
            assert (result.evidence, result.status) == (N, CallStatus.TIMEOUT)
            async with asyncio.timeout(5):
                await ended.wait()


async def test_pool_without_a_free_connection_proves_that_nothing_was_sent() -> None:
    """The deadline passes in the queue for a connection."""

    async def never(reader: asyncio.StreamReader, _: object) -> None:
        await reader.read()

    limits = httpx2.Limits(max_connections=1)
    pool = httpx2.AsyncHTTPTransport(limits=limits)
    async with (
        serving(never) as server,
        calling(server.url, transport=pool) as patient,
        calling(server.url, deadline=0.2, transport=pool) as dcs,
    ):
        first = asyncio.create_task(patient.create(an_order("r-1"), allowed))
        await until(lambda: server.connections)
        result = await dcs.create(an_order("r-2"), allowed)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status, len(server.connections)) == (N, CallStatus.TIMEOUT, 1)
        first.cancel()
        await asyncio.wait({first})


async def test_name_whose_first_address_swallows_packets_is_called_at_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It costs a quarter of a second, and one create."""
    with swallowing("127.0.0.2") as port:
        server = RawServer(OK)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", port)

        async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        async with listening:
            result = await create(f"http://two-addresses.test:{port}", deadline=3)
        assert isinstance(result, TaskCreated), result
        assert server.creates == 1
