"""Connections and channels of aio-pika: a timeout on every operation, and one exception for a lost connection.

Plain connections, not robust ones: who reconnects, when, and what is declared then is decided in this room
(the robust layer restores silently, and waits without an end; mosquito/aio-pika#231, #253, #588).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import AbstractChannel

from worker.rabbit import lenient_codec

HEARTBEAT_SECONDS: Final = 10
"""A dead peer is noticed after some three heartbeats."""
CONNECT_TIMEOUT_SECONDS: Final = 10.0
FIRST_CONNECT_TIMEOUT_SECONDS: Final = 5.0
"""For the first attempts, where another node can be tried."""
RPC_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0


class ConnectionLostError(ConnectionError):
    """The connection to the broker was lost before it answered."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """The nodes of one cluster, and TLS if they speak it."""

    urls: tuple[str, ...] = field(repr=False)  # they hold passwords
    tls: ssl.SSLContext | None = None


def tls_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """TLS with the given authority (else the system's), and a client certificate if given."""
    context = ssl.create_default_context(cafile=ca_file)
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context


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
            raise ConnectionLostError("the channel was closed") from None
        raise


@asynccontextmanager
async def connected(brokers: Brokers, attempt: int, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection called `name` to one node, the next one at each `attempt`; closed within its timeout.

    Raises IncompatibleCodecError if hostile messages would break it.
    """
    lenient_codec.install()
    nodes = len(brokers.urls)
    timeout = FIRST_CONNECT_TIMEOUT_SECONDS if attempt < nodes > 1 else CONNECT_TIMEOUT_SECONDS
    async with asyncio.timeout(timeout):
        connection = await aio_pika.connect(
            brokers.urls[attempt % nodes],
            ssl_context=brokers.tls,
            timeout=timeout,
            heartbeat=HEARTBEAT_SECONDS,
            client_properties={"connection_name": name},
        )
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
