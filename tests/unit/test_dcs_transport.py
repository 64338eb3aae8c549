"""The wire itself, against a server that writes what it likes."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from worker.dcs.evidence import Witness
from worker.dcs.message import REPLY_LIMIT, Reply, Request, TooLargeError
from worker.dcs.pool import Pool, is_sound
from worker.dcs.transport import Transport, transport
from worker.policy.pulse import Pulse

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STRAY = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """A server: the next answer to each request, on whatever connection it comes."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other; an answer without a length ends its connection."""
        self.connections.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await reader.readexactly(length(head))
                answer = self.answers.pop(0)
                writer.write(answer)
                await writer.drain()
                if b"ength:" not in answer and b"chunked" not in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def length(head: bytes) -> int:
    """Bytes of the body that the head announces."""
    lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    return sum(int(value) for name, _, value in lines if name == b"content-length")


@asynccontextmanager
async def talking(*answers: bytes) -> AsyncIterator[tuple[Transport, Peer]]:
    """A transport and its peer."""
    peer, wire = Peer(*answers), transport(None)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, asyncio.timeout(10):
        try:
            yield wire, peer
        finally:
            await wire.aclose()


def witness() -> Witness:
    """Of a process that is never frozen."""
    return Witness(Pulse(lambda: 0.0))


async def ask(wire: Transport, peer: Peer, content: bytes = b"{}", **headers: str) -> Reply:
    """Post something."""
    return await wire.send(Request("POST", f"{peer.url}/v2/p", headers, content), witness())


async def test_a_connection_is_kept() -> None:
    """One for calls that follow each other, and the request is written as it is to be."""
    async with talking(OK, OK) as (wire, peer):
        for _ in range(2):
            reply = await ask(wire, peer, X_Name="value")
            assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"ok", "2")
        host = peer.url.removeprefix("http://").encode()
        head = b"POST /v2/p HTTP/1.1\r\nX_Name: value\r\nHost: %b\r\nContent-Length: 2\r\n\r\n" % host
        assert (peer.heads, len(peer.connections)) == ([head, head], 1)


async def test_what_came_unasked_is_not_taken_for_an_answer() -> None:
    """A gateway tells an idle connection that it timed out: the next call goes by another one, and has its own end."""
    async with talking(OK, OK) as (wire, peer):
        await ask(wire, peer)
        peer.connections[0].write(STRAY)
        await peer.connections[0].drain()
        await until(lambda: has_come_unasked(wire))
        assert (await ask(wire, peer)).status == 200
        assert len(peer.connections) == 2


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_an_answer_is_read_whole(answer: bytes, body: bytes) -> None:
    """Whatever its form, and as it came."""
    async with talking(answer, OK) as (wire, peer):
        assert (await ask(wire, peer)).body == body
        assert (await ask(wire, peer)).body == b"ok"
        assert len(peer.heads) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nok",
        b"no HTTP at all, ength:\r\n\r\n",
        b"",
    ],
)
async def test_an_answer_that_breaks_off_is_none(answer: bytes) -> None:
    """It raises, after the witness was told, and the next call is not disturbed by it."""
    async with talking(answer, OK) as (wire, peer):
        told = witness()
        sending = asyncio.create_task(wire.send(Request("POST", peer.url, (), b"{}"), told))
        await until(lambda: len(peer.heads) == 1)
        peer.connections[0].close()
        with pytest.raises(Exception, match=r".*"):
            await sending
        assert told.was_connected
        assert (await ask(wire, peer)).body == b"ok"


async def test_an_answer_is_bounded() -> None:
    """What is larger is not read to its end, and its connection is not kept."""
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * REPLY_LIMIT) + b"x" * 4 * REPLY_LIMIT
    async with talking(large, OK) as (wire, peer):
        with pytest.raises(TooLargeError):
            await ask(wire, peer)
        assert (await ask(wire, peer)).body == b"ok"
        assert len(peer.connections) == 2


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
async def test_a_header_is_one_line(value: str) -> None:
    """Else nothing is sent, and it is known that nothing was."""
    async with talking(OK) as (wire, peer):
        told = witness()
        with pytest.raises(ValueError, match="header"):
            await wire.send(Request("POST", peer.url, {"X-Auth-Token": value}, b"{}"), told)
        assert not told.was_connected


async def test_a_call_that_is_cancelled_closes_its_connection() -> None:
    """Its answer could be taken for another one's."""
    async with talking(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", OK) as (wire, peer):
        asking = asyncio.create_task(ask(wire, peer))
        await until(lambda: len(peer.heads) == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await ask(wire, peer)).body == b"ok"
        assert len(peer.connections) == 2


async def test_a_connection_that_nobody_uses_is_closed() -> None:
    """After its time, and with what keeps it; the one that was used last is used first."""
    async with talking() as (_, peer):
        origin, pool = URL(peer.url), Pool(ssl.create_default_context(), keep_alive=0.2)
        old, young = [await pool.take(origin) for _ in range(2)]
        pool.keep(origin, old)
        await asyncio.sleep(0.1)
        pool.keep(origin, young)
        assert await pool.take(origin) is young
        assert repr(pool) == "<Pool: 1 idle>"
        pool.keep(origin, young)
        await until(lambda: old.closed)
        assert not young.closed
        await until(lambda: young.closed)
        assert repr(pool) == "<Pool: 0 idle>"
        pool.keep(origin, kept := await pool.take(origin))
        await pool.aclose()
        assert kept.closed


def has_come_unasked(wire: Transport) -> bool:
    """Whether the one idle connection is known to be unsound."""
    (((connection, _),),) = wire._pool._idle.values()
    return not is_sound(connection)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    while not holds():
        await asyncio.sleep(0.001)
