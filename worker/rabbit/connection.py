"""Connections and channels of aio-pika, each with a deadline on everything.

Plain connections, not robust ones: who reconnects, when, and what is declared then is decided here
(the robust layer restores silently, and waits without an end; mosquito/aio-pika#231, #253, #588).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import AbstractChannel

from worker.rabbit import lenient_codec

HEARTBEAT: Final = 10
"""Seconds; a dead peer is noticed after some three of them."""
CONNECT_DEADLINE: Final = 10.0
RPC_DEADLINE: Final = 10.0
CLOSE_DEADLINE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Brokers:
    """The nodes of one cluster, and how to speak TLS with them."""

    urls: tuple[str, ...]
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<Brokers: {len(self.urls)}>"


def tls_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """TLS with the given authority (else the system's), and a client certificate if given."""
    context = ssl.create_default_context(cafile=ca_file)
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context


@asynccontextmanager
async def connected(brokers: Brokers, attempt: int, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection to the node whose turn it is at `attempt`; closed within its deadline.

    Raises IncompatibleCodecError if hostile messages would break it.
    """
    lenient_codec.install()
    url = brokers.urls[attempt % len(brokers.urls)]
    async with asyncio.timeout(CONNECT_DEADLINE):
        connection = await aio_pika.connect(
            url,
            ssl_context=brokers.tls,
            timeout=CONNECT_DEADLINE,
            heartbeat=HEARTBEAT,
            client_properties={"connection_name": name},
        )
    try:
        yield connection
    finally:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_DEADLINE):
                await connection.close()


@asynccontextmanager
async def open_channel(connection: AbstractConnection, *, confirms: bool = False) -> AsyncIterator[Channel]:
    """A channel of the connection's transport, closed at the end if it is still open.

    The layer below aio-pika's own objects hands over frames as they came: properties and headers of a
    request can be copied unchanged, and nothing is built that nobody reads.
    """
    channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    async with asyncio.timeout(RPC_DEADLINE):
        await channel.initialize()
    underlay = await channel.get_underlay_channel()
    assert isinstance(underlay, Channel)
    try:
        yield underlay
    finally:
        if not underlay.is_closed:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_DEADLINE):
                    await channel.close()


async def channel_below(connection: AbstractConnection) -> AbstractChannel:
    """A channel opened below aio-pika, which keeps something of each of its channels until the connection closes."""
    transport = connection.transport
    if transport is None:
        raise ConnectionError("the connection is closed")
    return await transport.connection.channel(publisher_confirms=False)
