"""The shared connection: order, deadlines, and what happens when it breaks. Redis is a few lines here."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from worker.claims.link import Link
from worker.claims.wire import NoAnswer, Wire, dial, opened

DEADLINE = 0.3
PING = b"*1\r\n$4\r\nPING\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every line that is sent."""
    while line := await reader.readline():
        writer.write(b"+" + line)


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read, and answer nothing."""
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Close the connection after the first line."""
    await reader.readline()


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """A server, as a URL."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(session, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def wired(serve: Serve) -> AsyncIterator[Wire]:
    """A wire to such a server."""
    async with listening(serve) as url, opened(dial(url), DEADLINE) as wire:
        yield wire


async def test_everyone_gets_their_own_answer() -> None:
    """Many calls at once over one connection, each answered with what it asked."""
    async with wired(echo) as wire:
        replies = await asyncio.gather(*(wire.ask(b"%d\r\n" % number) for number in range(100)))
    assert replies == [b"%d" % number for number in range(100)]


async def test_what_is_asked_in_one_turn_is_sent_in_one_piece() -> None:
    """Calls that are made together cost one write."""
    pieces = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            pieces.append(piece)
            writer.write(b"+OK\r\n" * piece.count(PING))

    async with wired(count) as wire:
        await asyncio.gather(*(wire.ask(PING) for _ in range(10)))
    assert pieces == [PING * 10]


async def test_no_answer_in_time_breaks_the_wire() -> None:
    """The calls that wait are told together, within the deadline; later ones at once."""
    async with wired(silence) as wire:
        begun = time.monotonic()
        replies = await asyncio.gather(*(wire.ask(PING) for _ in range(3)))
        assert DEADLINE <= time.monotonic() - begun < 2 * DEADLINE
        assert replies == [NoAnswer("Redis does not answer in time")] * 3
        later = wire.ask(PING)
        assert later.done()
        assert wire.broken.result() == "Redis does not answer in time"
        assert repr(wire) == "<Wire: broken, 0 asked>"


async def test_each_call_has_a_deadline_of_its_own() -> None:
    """A wire whose answers are slow, but never too slow, lives on under steady calls."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await asyncio.sleep(DEADLINE / 3)
            writer.write(b"+OK\r\n")

    async with wired(slow) as wire:
        for _ in range(4):
            assert list(await asyncio.gather(wire.ask(b"x\r\n"), wire.ask(b"x\r\n"))) == [b"OK"] * 2


async def test_a_busy_event_loop_is_not_taken_for_a_silent_redis() -> None:
    """An answer that arrived in time, but that this process was too busy to read, counts."""

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            while piece := connection.recv(100):
                connection.sendall(b"+" + piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        async with opened(dial(f"redis://127.0.0.1:{listener.getsockname()[1]}"), DEADLINE) as wire:
            for _ in range(2):
                reply = wire.ask(b"x\r\n")
                while wire._outgoing:
                    await asyncio.sleep(0)
                time.sleep(2 * DEADLINE)
                assert await reply == b"x"
        thread.join(5)


async def test_who_no_longer_waits_does_not_disturb_the_others() -> None:
    """A cancelled call takes its answer with it."""
    async with wired(echo) as wire:
        cancelled, other = wire.ask(b"x\r\n"), wire.ask(b"y\r\n")
        cancelled.cancel()
        assert await other == b"y"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"-READONLY You can't write against a read only replica.\r\n", "Redis is a replica that must not be"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "Redis is loading its records"),
        (b"-NOAUTH Authentication required.\r\n", "Redis does not accept the credentials"),
        (b"HTTP/1.1 400 Bad Request\r\n", "Redis is not understood: InvalidResponse"),
    ],
)
async def test_an_answer_that_concerns_everyone(said: bytes, reason: str) -> None:
    """An error that the next call would meet as well, or a server that is no Redis, ends the wire for all."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        await reader.read()

    async with wired(refuse) as wire:
        replies = await asyncio.gather(wire.ask(PING), wire.ask(PING))
        assert all(isinstance(reply, NoAnswer) and reply.reason.startswith(reason) for reply in replies)
        assert wire.broken.done()


async def test_an_answer_that_concerns_one_record() -> None:
    """An error about one key answers that call alone."""

    async def sometimes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(b"-WRONGTYPE Operation\r\n" if line == b"odd\r\n" else b":1\r\n")

    async with wired(sometimes) as wire:
        replies = await asyncio.gather(*(wire.ask(line + b"\r\n") for line in (b"good", b"odd", b"good")))
        assert replies == [1, NoAnswer("Redis refuses: WRONGTYPE"), 1]
        assert not wire.broken.done()


async def test_an_answer_that_nobody_asked_for() -> None:
    """A wire that is out of step is not used any more."""

    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+hello\r\n")
        await reader.read()

    async with wired(eager) as wire:
        assert await wire.broken == "Redis is not understood: IndexError"


async def test_a_closed_connection_answers_everyone() -> None:
    """When the server hangs up, nobody waits for the deadline."""
    async with wired(hang_up) as wire:
        begun = time.monotonic()
        reply = await wire.ask(b"x\r\n")
        assert isinstance(reply, NoAnswer)
        assert reply.reason.startswith("Redis cannot be reached")
        assert time.monotonic() - begun < DEADLINE


class Told:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[bool, str]] = []

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis can be used, or not any more."""
        self.said.append((is_available, reason))

    def claims_doubted(self, seconds: float) -> None:
        """Not for a link to say."""
        raise AssertionError(seconds)


async def test_a_redis_of_no_use_is_tried_again_but_told_of_once() -> None:
    """A link makes one attempt at a time with a pause between, and says only what changed."""
    told, attempts, usable_from = Told(), 0, 3

    async def beat(_: Wire, is_new: bool) -> str | None:
        nonlocal attempts
        attempts += is_new
        return None if attempts >= usable_from else "not yet"

    async with listening(silence) as url:
        link = Link(dial(url), beat, told, deadline=DEADLINE, every=10.0)
        running, begun = asyncio.create_task(link.run()), time.monotonic()
        await asyncio.wait_for(link.tried.wait(), 5)
        assert link.ask(PING).result() == NoAnswer("Redis is away")
        async with asyncio.timeout(10):
            while not link.is_available:
                await asyncio.sleep(0.01)
        assert time.monotonic() - begun >= 1.0  # two pauses
        assert (attempts, told.said) == (usable_from, [(False, "not yet"), (True, "Redis answers")])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert repr(link) == "<Link: None>"
