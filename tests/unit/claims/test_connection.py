"""The shared connection: batches, deadlines, and what happens when it breaks. Redis is a few lines here."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from redis import exceptions as redis

from tests.fakes.addresses import HOST, PythonResolver, first_address_swallows
from tests.unit.claims.small_redis import (
    MEMORY,
    Serve,
    answering,
    bulk,
    echo,
    listening,
    read_command,
    reply_to,
    stay_silent,
)
from worker.claims.connection import NoReply, RedisAnswer, RedisSession, open_session
from worker.claims.scripts import REMEMBER, SCRIPTS, ScriptCall

TIMEOUT = 0.3


def command(key: bytes) -> ScriptCall:
    """A command that the fake answers with its key."""
    return ScriptCall(REMEMBER, (key,))


@asynccontextmanager
async def session_with(serve: Serve) -> AsyncIterator[RedisSession]:
    """A session with such a server."""
    async with listening(serve) as url, open_session(url, TIMEOUT) as session:
        yield session


async def test_each_call_gets_its_own_answer() -> None:
    """Many calls at once over one connection, each answered with its own reply and what Redis remembers."""
    async with session_with(echo) as session:
        answers = await asyncio.gather(*(session.ask(command(b"%d" % number)) for number in range(500)))
    assert answers == [RedisAnswer(b"%d" % number, MEMORY) for number in range(500)]


async def test_calls_of_one_moment_are_one_exchange() -> None:
    """What is asked while one exchange is under way goes out together in the next, with one look at the memory."""
    names: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while parts := await read_command(reader):
            names.append(parts[0])
            writer.write(reply_to(parts))

    async with session_with(serve) as session:
        first = session.ask(command(b"first"))
        await asyncio.sleep(0)
        await asyncio.gather(first, *(session.ask(command(b"%d" % number)) for number in range(10)))
    assert names[-11:] == [*([b"EVALSHA"] * 10), b"GET"]
    assert names.count(b"GET") <= 2


async def test_no_answer_in_time_ends_the_session() -> None:
    """The calls that wait, and those that wait for their turn, are answered within the timeout; later ones at once."""
    async with session_with(stay_silent) as session:
        started = time.monotonic()
        first = session.ask(command(b"first"))
        await asyncio.sleep(TIMEOUT / 3)
        answers = [await first, *await asyncio.gather(*(session.ask(command(b"x")) for _ in range(3)))]
        assert time.monotonic() - started < 2 * TIMEOUT
        assert answers == [RedisAnswer(NoReply("Redis does not answer in time"))] * 4
        assert session.ask(command(b"later")).done()
        assert session.ended.result() == "Redis does not answer in time"
        assert repr(session) == "<RedisSession: ended, 0 waiting>"


async def test_slow_answers_do_not_end_the_session() -> None:
    """A server whose answers are slow, but never too slow, is used on and on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while parts := await read_command(reader):
            if parts[0] == b"GET":
                await asyncio.sleep(TIMEOUT / 3)
            writer.write(reply_to(parts))

    async with session_with(serve) as session:
        for _ in range(5):
            answers = await asyncio.gather(session.ask(command(b"a")), session.ask(command(b"b")))
            assert [answer.reply for answer in answers] == [b"a", b"b"]


async def test_a_busy_event_loop_is_not_taken_for_a_silent_redis() -> None:
    """An answer that arrived in time, but that this process was too busy to read, counts."""
    answered = threading.Semaphore(0)

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            while connection.recv(10_000):
                connection.sendall(bulk(b"x") + bulk(MEMORY))
                answered.release()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        async with open_session(f"redis://127.0.0.1:{listener.getsockname()[1]}", TIMEOUT) as session:
            for _ in range(2):
                asked = session.ask(command(b"x"))
                async with asyncio.timeout(5):
                    while not answered.acquire(blocking=False):
                        await asyncio.sleep(0)
                time.sleep(2 * TIMEOUT)
                assert (await asked).reply == b"x"
        thread.join(5)


async def test_a_cancelled_call_does_not_disturb_the_others() -> None:
    """It takes its answer with it."""
    async with session_with(echo) as session:
        cancelled, other = session.ask(command(b"x")), session.ask(command(b"y"))
        cancelled.cancel()
        assert (await other).reply == b"y"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"-READONLY You can't write against a read only replica.\r\n", "Redis is a replica that must not be"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "Redis is loading its records"),
        (b"-NOAUTH Authentication required.\r\n", "Redis does not accept the credentials"),
        (b"-NOPERM this user has no permissions to run the 'eval' command\r\n", "Redis does not permit these"),
        (b"-ERR unknown command\r\n", "Redis refuses: ERR"),
        (b"HTTP/1.1 400 Bad Request\r\n", "Redis is not understood: InvalidResponse"),
    ],
)
async def test_an_error_that_concerns_every_call(said: bytes, reason: str) -> None:
    """An error that the next call would meet as well, or a server that is no Redis, ends the session."""
    async with session_with(answering(lambda _: said)) as session:
        answers = await asyncio.gather(session.ask(command(b"a")), session.ask(command(b"b")))
        for answer in answers:
            assert isinstance(answer.reply, NoReply)
            assert answer.reply.reason.startswith(reason)
        assert (await session.ended).startswith(reason)


async def test_an_error_that_concerns_one_record() -> None:
    """It answers that call alone."""

    def answer(parts: list[bytes]) -> bytes:
        return b"-WRONGTYPE Operation\r\n" if parts[-1] == b"odd" else b":1\r\n"

    async with session_with(answering(answer)) as session:
        answers = await asyncio.gather(*(session.ask(command(key)) for key in (b"good", b"odd", b"good")))
        assert [answer.reply for answer in answers] == [1, NoReply("Redis refuses: WRONGTYPE"), 1]
        assert not session.ended.done()


async def test_an_answer_without_a_question() -> None:
    """A connection on which something came in unasked is not used any more."""

    def answer(parts: list[bytes]) -> bytes:
        return reply_to(parts) + (bulk(b"stray") if parts[0] == b"GET" else b"")

    async with session_with(answering(answer)) as session:
        assert await session.ask(command(b"x")) == RedisAnswer(b"x", MEMORY)
        reply, _ = await session.ask(command(b"y"))
        assert isinstance(reply, NoReply)
        assert session.ended.done()


async def test_a_closed_connection_answers_every_call() -> None:
    """When the server hangs up, no call waits for the timeout."""

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_command(reader)

    async with session_with(serve) as session:
        started = time.monotonic()
        answer = await session.ask(command(b"x"))
        assert isinstance(answer.reply, NoReply)
        assert answer.reply.reason.startswith("Redis cannot be reached")
        assert time.monotonic() - started < TIMEOUT


async def test_an_idle_connection_that_was_closed_is_noticed_and_not_replaced() -> None:
    """Redis may have forgotten what is held: the session ends, within seconds, though no call is made."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(reply_to(await read_command(reader)) if connections == 1 else b"")
        writer.write(reply_to(await read_command(reader)) if connections == 1 else b"")

    async with session_with(serve) as session:
        assert (await session.ask(command(b"x"))).reply == b"x"
        reason = await asyncio.wait_for(session.ended, 5)
        assert reason == "Redis cannot be reached: Connection closed by server."


@pytest.mark.parametrize(
    ("refusal", "asked_twice"),
    [
        (b"-NOSCRIPT No matching script. Please use EVAL.\r\n", [b"EVALSHA", b"EVAL", b"EVALSHA", b"EVAL"]),
        (b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n", [b"EVALSHA", b"EVAL", b"EVAL"]),
        (b"-ERR unknown command 'EVALSHA'\r\n", [b"EVALSHA", b"EVAL", b"EVAL"]),
    ],
)
async def test_a_script_that_redis_does_not_have_is_sent_whole(refusal: bytes, asked_twice: list[bytes]) -> None:
    """Also where only EVAL is permitted or known, as for the users of 0.1.0; what was executed is not sent again."""
    names: list[bytes] = []

    def answer(parts: list[bytes]) -> bytes:
        names.append(parts[0])
        if parts[0] == b"EVALSHA":
            return refusal
        return reply_to(parts)

    async with session_with(answering(answer)) as session:
        for _ in range(2):
            assert await session.ask(command(b"x")) == RedisAnswer(b"x", MEMORY)
    assert [name for name in names if name != b"GET"] == asked_twice


def test_every_script_is_registered_once() -> None:
    """A script that is not in the list could not be asked for."""
    assert len(set(SCRIPTS)) == len(SCRIPTS) == 6


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, PythonResolver])
@pytest.mark.parametrize("names", [(), (HOST,), ("127.0.0.1",)])
def test_address_that_swallows_packets_does_not_keep_redis_away(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one is used, with TLS too; its certificate must be the host's, and not the address's."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if names else None
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    if tls is not None:
        authority.issue_cert(*names).configure_cert(tls)

    async def ask() -> RedisAnswer:
        async with listening(echo, tls) as url:
            address = urlsplit(url)
            assert address.port
            with first_address_swallows(monkeypatch, address.port) as host:
                query = f"ssl_ca_certs={tmp_path / 'ca.pem'}" if tls else ""
                target = address._replace(netloc=f"{host}:{address.port}", query=query).geturl()
                async with open_session(target, TIMEOUT) as session:
                    return await session.ask(command(b"key"))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        if names == ("127.0.0.1",):
            with pytest.raises(redis.ConnectionError, match="certificate is not valid for"):
                runner.run(ask())
        else:
            assert runner.run(ask()) == RedisAnswer(b"key", MEMORY)
