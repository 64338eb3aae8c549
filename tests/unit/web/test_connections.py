"""Bounds of the HTTP server's connections, tried by clients that flood it, send too much, or do not read."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from worker.web.connections import MAX_CONNECTIONS, MAX_HEAD_BYTES, BoundedConnection, BoundedServer

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"x" * 20_000_000


@asynccontextmanager
async def serving(deadline_seconds: float = 60.0) -> AsyncIterator[tuple[BoundedServer, int]]:
    """A server of small pages, and of a large one at `/large`; its port."""

    async def handle(request: web.BaseRequest) -> web.Response:
        assert isinstance(request.protocol, BoundedConnection)
        request.protocol.request_received()
        return web.Response(body=LARGE if request.path == "/large" else b"small")

    server = BoundedServer(handle, deadline_seconds=deadline_seconds)
    async with await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0) as listener:
        yield server, listener.sockets[0].getsockname()[1]
        await server.shutdown(0)


async def is_answered(port: int) -> bool:
    """Whether a new connection gets its page at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    async with asyncio.timeout(5):
        is_whole = (await reader.readuntil(b"small")).startswith(b"HTTP/1.1 200")
    writer.close()
    return is_whole


async def has_ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends a connection; fails if it does not."""
    try:
        async with asyncio.timeout(5):
            await reader.read()
    except ConnectionResetError:
        pass
    return True


async def test_flood_leaves_few_connections_and_probes_are_answered() -> None:
    """Connections without a request are closed first: a scraper keeps its own."""
    async with serving() as (server, port):
        scraper, scraping = await asyncio.open_connection("127.0.0.1", port)
        flood = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS - 1)]
        scraping.write(REQUEST)
        await scraper.readuntil(b"small")
        flood += [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS - 1)]
        for _, writer in flood:
            writer.write(b"GET / HTTP/1.1\r\nX-Never: ")

        assert all([await has_ended(reader) for reader, _ in flood[: MAX_CONNECTIONS - 1]])
        assert len(server.by_last_request) == MAX_CONNECTIONS
        scraping.write(REQUEST)
        assert (await scraper.readuntil(b"small")).startswith(b"HTTP/1.1 200")
        assert await is_answered(port)
        for _, writer in [*flood, (scraper, scraping)]:
            writer.close()


@pytest.mark.parametrize(
    "line",
    [b"X-%d: " + b"y" * 4000 + b"\r\n", b"X-%d: y\r\n", b"X-%d" + b"y" * 4000, b"\r\n%d"],
    ids=["long lines", "many lines", "a name without end", "blank lines"],
)
async def test_large_head_is_cut_off(line: bytes) -> None:
    """After 16 kB without a request the connection is closed, in whatever form they came."""
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n")
        sent = 0
        while sent <= 2 * MAX_HEAD_BYTES and not reader.at_eof():
            sent += len(data := line.replace(b"%d", b"%d" % sent))
            writer.write(data)
        assert await has_ended(reader)
        assert await is_answered(port)
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST + b"GET / HTTP/1.1\r\nHo"], ids=repr)
async def test_head_has_deadline(sent: bytes) -> None:
    """Of the first request and of the next ones; no bytes in between prolong it."""
    async with serving(deadline_seconds=0.1) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        drip = asyncio.create_task(send_slowly(writer if sent else None))
        assert await has_ended(reader)
        drip.cancel()
        writer.close()


async def send_slowly(writer: asyncio.StreamWriter | None) -> None:
    """A byte of a head now and then."""
    while writer is not None:
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def test_idle_connection_is_kept() -> None:
    """The deadline is for heads and answers, not for the time between two scrapes."""
    async with serving(deadline_seconds=0.05) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"small")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.15)  # three deadlines
        assert not reader.at_eof()
        writer.close()


async def test_answer_that_is_not_read_has_deadline() -> None:
    """A reader that stands still holds no connection and no memory."""
    async with serving(deadline_seconds=0.2) as (server, port):
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", port))
        await asyncio.get_running_loop().sock_sendall(slow, REQUEST.replace(b"/ ", b"/large ", 1))
        async with asyncio.timeout(5):
            while not server.by_last_request:
                await asyncio.sleep(0)
            while server.by_last_request:
                await asyncio.sleep(0.01)
        slow.close()
