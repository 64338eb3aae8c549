"""Connections and channels of aio-pika: a timeout on every operation, and one exception for a lost connection.

Plain connections, not robust ones: who reconnects, when, and what is declared then is decided in this room
(the robust layer restores silently, and waits without an end; mosquito/aio-pika#231, #253, #588).
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, SupportsIndex
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection, ConnectionParameter
from aio_pika.connection import make_url
from aiohappyeyeballs import start_connection
from aiormq import AMQPConnectionError, Channel, InvalidFrameError, TransportFactory
from aiormq.abc import AbstractChannel
from pamqp import frame
from pamqp.commands import Connection as Method

from worker.rabbit import lenient_codec
from worker.rabbit.failure_reasons import CHANNEL_CLOSED, BrokerRefusedError

HEARTBEAT_SECONDS: Final = 10
"""A dead peer is noticed after some three heartbeats."""
CONNECT_TIMEOUT_SECONDS: Final = 10.0
FIRST_CONNECT_TIMEOUT_SECONDS: Final = 5.0
"""For the first attempts, where another node can be tried."""
RPC_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0
MAX_HANDSHAKE_BYTES: Final = 65_536
NEXT_ADDRESS_SECONDS: Final = 0.25
"""Wait until the next address of a host is tried as well, which RFC 8305 recommends."""


class ConnectionLostError(ConnectionError):
    """The connection to the broker was lost before it answered."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """The nodes of one cluster, and TLS if they speak it."""

    urls: tuple[str, ...] = field(repr=False)  # they hold passwords
    tls: ssl.SSLContext | None = None

    def address(self, attempt: int) -> str:
        """Host and port of the node that is tried at this attempt."""
        parts = urlsplit(self.urls[attempt % len(self.urls)])
        host, port = parts.hostname or "", parts.port or (5671 if parts.scheme == "amqps" else 5672)
        return f"{f'[{host}]' if ':' in host else host}:{port}"


class HandshakeReader(asyncio.StreamReader):
    """Stream reader that keeps what came, until the connection is open."""

    kept = b""

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Bytes came from the broker."""
        self.kept = (self.kept + bytes(data))[:MAX_HANDSHAKE_BYTES]
        super().feed_data(data)

    def end(self) -> bytes:
        """Keep nothing from now on, which costs nothing then; what was kept."""
        self.feed_data = super().feed_data  # type: ignore[method-assign]
        return self.kept


class BrokerTransport(TransportFactory):
    """Opens the socket of one connection; `tls`: None for plain TCP. `attempt`: which address of a host goes first.

    aiormq drops the broker's sentence when it refuses `connection.open` (no such vhost, no right on it, a limit of
    connections): the frame is read again here, from the bytes that came.
    """

    def __init__(self, tls: ssl.SSLContext | None, attempt: int = 0) -> None:
        self._tls = tls
        self._attempt = attempt
        self._reader = HandshakeReader(loop=asyncio.get_running_loop())

    def __repr__(self) -> str:
        return f"<BrokerTransport: {'TLS' if self._tls else 'TCP'}>"

    async def create(self, url: object, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the host of `url`, by the address that accepts first. Raises AMQPConnectionError."""
        loop, address = asyncio.get_running_loop(), urlsplit(str(url))
        host = address.hostname or ""
        del kwargs["ssl_context_provider"]
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        if self._tls is not None:
            kwargs |= {"ssl": self._tls, "server_hostname": server_name(host)}
        try:
            # Not by the loop itself: uvloop waits for each address until the system gives it up.
            infos = await loop.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
            first = self._attempt % len(infos)
            turns = (*infos[first:], *infos[:first])
            kwargs["sock"] = await start_connection(turns, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
            transport, _ = await loop.create_connection(lambda: protocol, **kwargs)
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return self._reader, asyncio.StreamWriter(transport, protocol, self._reader, loop)

    def end_handshake(self) -> str | None:
        """Keep nothing from now on; the sentence with which the broker closed the connection, if it did."""
        data, found = self._reader.end(), None
        while data:
            try:
                length, _, received = frame.unmarshal(data)
            except Exception:  # noqa: BLE001 - an incomplete frame, or none of AMQP
                break
            found = received if isinstance(received, Method.Close) else found
            data = data[length:]
        return found.reply_text if found is not None else None


class BrokerConnection(aio_pika.Connection):
    """A connection whose transport is given as `transport_factory`."""

    PARAMETERS = (
        *aio_pika.Connection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda value: value, is_kwarg=True),
    )


def server_name(host: str) -> str:
    """The host as certificates and SNI have it: without the dot of a fully qualified name."""
    return host.rstrip(".")


@contextmanager
def connection_loss_as_error() -> Iterator[None]:
    """Raise ConnectionLostError for a loss that comes in another form. A cancellation of this task stays one.

    A connection that gets stuck (no frame for three heartbeats) sets CancelledError on everything that waits for an
    answer, though the task that waits was not cancelled; `except Exception` misses it, and the task would just end as
    cancelled. A channel that is closed without a reason raises a bare `Exception`.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionLostError("the connection is stuck") from None
    except Exception as error:
        if type(error) is Exception:
            raise ConnectionLostError(CHANNEL_CLOSED) from None
        raise


@asynccontextmanager
async def connected(brokers: Brokers, attempt: int, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection called `name` to one node, the next one at each `attempt`; closed within its timeout.

    Raises IncompatibleCodecError if hostile messages would break it, BrokerRefusedError, and what aio-pika raises.
    """
    lenient_codec.install()
    nodes = len(brokers.urls)
    url = make_url(brokers.urls[attempt % nodes])
    usual = FIRST_CONNECT_TIMEOUT_SECONDS if attempt < nodes > 1 else CONNECT_TIMEOUT_SECONDS
    timeout = float(url.query.get("connection_timeout", usual * 1000)) / 1000
    transport = BrokerTransport(brokers.tls, attempt // nodes)
    url = url.update_query(heartbeat=url.query.get("heartbeat", HEARTBEAT_SECONDS))
    # Not aio_pika.connect, which writes all parameters into the URL.
    connection = BrokerConnection(url, client_properties={"connection_name": name}, transport_factory=transport)
    try:
        async with asyncio.timeout(timeout):
            await connection.connect(timeout=timeout)
    except InvalidFrameError as error:
        if (sentence := transport.end_handshake()) is None:
            raise
        raise BrokerRefusedError(sentence) from error
    transport.end_handshake()
    try:
        yield connection
    finally:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await connection.close()


@asynccontextmanager
async def open_channel(connection: AbstractConnection, *, confirms: bool = False) -> AsyncIterator[Channel]:
    """A channel of the connection's transport, closed at the end if it is still open.

    The layer below aio-pika's own objects hands over frames as they came: properties and headers of a
    request can be copied unchanged, and no object is built that nothing reads.
    """
    channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
        await channel.initialize()
    underlay = await channel.get_underlay_channel()
    assert isinstance(underlay, Channel)
    try:
        yield underlay
    finally:
        if not underlay.is_closed:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await channel.close()


async def channel_below(connection: AbstractConnection) -> AbstractChannel:
    """A channel opened below aio-pika, which keeps something of each of its channels until the connection closes."""
    transport = connection.transport
    if transport is None:
        raise ConnectionError("the connection is closed")
    return await transport.connection.channel(publisher_confirms=False)


async def is_blocked(connection: AbstractConnection) -> bool:
    """Whether the broker blocks the connection: aiormq only logs it, but lets one wait for the end of it."""
    transport = connection.transport
    if transport is None:
        return False
    try:
        async with asyncio.timeout(0):
            await transport.ready()
    except TimeoutError:
        return True
    return False
