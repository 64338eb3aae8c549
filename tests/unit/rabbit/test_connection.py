"""A lost connection is one exception, a cancelled task stays cancelled, and a refusal is in the broker's words."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from pamqp import commands, frame
from pamqp.base import Frame

from tests.fakes.addresses import PythonResolver, first_address_swallows
from worker.rabbit.connection import (
    BrokerConnection,
    Brokers,
    BrokerTransport,
    ConnectionLostError,
    connected,
    connection_loss_as_error,
)
from worker.rabbit.failure_reasons import BrokerRefusedError


async def waiting(answer: asyncio.Future[None], seconds: float | None = None) -> None:
    """Wait for an answer of the broker, with a deadline if one is given."""
    with connection_loss_as_error():
        async with asyncio.timeout(seconds):
            await answer


async def test_cancellation_that_the_library_made_is_a_lost_connection() -> None:
    """aiormq sets CancelledError on the answer; the task that waits was not cancelled."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(waiting(answer))
    await asyncio.sleep(0)
    answer.set_exception(asyncio.CancelledError())
    with pytest.raises(ConnectionLostError, match="the connection is stuck"):
        await task


async def test_cancelled_task_stays_cancelled() -> None:
    """A worker that stops is not kept by its own cancellation."""
    task = asyncio.create_task(waiting(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_deadline_stays_a_deadline() -> None:
    """asyncio.timeout cancels the task, too."""
    with pytest.raises(TimeoutError):
        await waiting(asyncio.get_running_loop().create_future(), 0.0)


async def test_bare_exception_is_a_lost_connection_and_any_other_is_itself() -> None:
    """aiormq rejects what waits with `Exception` where it knows no reason."""
    for error, expected in ((Exception(), ConnectionLostError), (ValueError("x"), ValueError)):
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_exception(error)
        with pytest.raises(expected):
            await waiting(answer)


@asynccontextmanager
async def refusing_broker(*answers: Frame, received: list[bytes] | None = None) -> AsyncIterator[str]:
    """The URL of a broker that sends these frames, one for each time that something comes, which it keeps."""
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for method in answers:
            data = await reader.read(65_536)
            if received is not None:
                received.append(data)
            writer.write(frame.marshal(method, 0))
        await reader.read(65_536)
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asyncio.timeout(5):
            await ended.wait()


START = commands.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")
TUNE = commands.Connection.Tune(2047, 131_072, 60)
LIMIT = "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached"


async def test_refused_open_has_the_sentence_of_the_broker() -> None:
    """aiormq has an object in place of it."""
    close = commands.Connection.Close(530, LIMIT, 10, 40)
    async with refusing_broker(START, TUNE, close) as url:
        with pytest.raises(BrokerRefusedError, match="connection limit \\(1\\) is reached"):
            async with connected(Brokers((url,)), 0, "test"):
                pass


@pytest.mark.parametrize(("query", "seconds"), [("", 10), ("?heartbeat=30", 30)])
async def test_heartbeat_of_the_url_is_used(query: str, seconds: int) -> None:
    """RabbitMQ's clients read it there; without it ours holds."""
    received: list[bytes] = []
    close = commands.Connection.Close(530, LIMIT, 10, 40)
    async with refusing_broker(START, TUNE, close, received=received) as url:
        with pytest.raises(BrokerRefusedError):
            async with connected(Brokers((url + query,)), 0, "test"):
                pass
    _, _, tuned = frame.unmarshal(received[2])
    assert isinstance(tuned, commands.Connection.TuneOk)
    assert tuned.heartbeat == seconds


async def test_connection_timeout_of_the_url_is_used() -> None:
    """In milliseconds."""

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    started = time.monotonic()
    async with await asyncio.start_server(stay_silent, "127.0.0.1", 0) as server:
        url = f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/?connection_timeout=200"
        with pytest.raises(TimeoutError):
            async with connected(Brokers((url,)), 0, "test"):
                pass
    assert 0.2 <= time.monotonic() - started < 4.0


async def test_handshake_that_ended_otherwise_has_no_sentence() -> None:
    """Nothing came, half a frame came, or the connection was opened; nothing is kept afterwards."""
    transport = BrokerTransport(None)
    assert transport.end_handshake() is None
    async with refusing_broker(START) as url:
        provider = {"ssl_context_provider": None}
        reader, writer = await transport.create(url, **provider)
        writer.write(b"AMQP")
        await reader.readexactly(9)
        assert transport.end_handshake() is None
        writer.close()
        await writer.wait_closed()
    assert repr(transport) == "<BrokerTransport: TCP>"
    assert BrokerConnection.PARAMETERS[-1].name == "transport_factory"


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, PythonResolver])
def test_address_that_swallows_packets_does_not_use_the_deadline(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next address of the name is tried while the first one is silent, on both event loops; no delay for frames."""

    async def connect() -> None:
        async with refusing_broker(START) as url:
            address = urlsplit(url)
            assert address.port
            with first_address_swallows(monkeypatch, address.port) as host:
                started = time.monotonic()
                target = address._replace(netloc=f"{host}:{address.port}").geturl()
                _, writer = await BrokerTransport(None).create(target, ssl_context_provider=None)
                assert time.monotonic() - started < 2.0
                assert writer.get_extra_info("peername")[0] == "127.0.0.1"
                sock = writer.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                writer.close()
                await writer.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(connect())


def test_address_of_each_attempt() -> None:
    """Host and port of the nodes in turn; no user, no password."""
    brokers = Brokers(("amqp://u:p@one/", "amqps://[::1]/v", "amqp://u:p@three:1/"), ssl.create_default_context())
    assert [brokers.address(attempt) for attempt in range(4)] == ["one:5672", "[::1]:5671", "three:1", "one:5672"]
