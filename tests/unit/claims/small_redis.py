"""A server that speaks as much of Redis as a test needs."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

MEMORY = b"1795000000.5"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """One command as Redis reads it; empty at the end."""
    head = await reader.readline()
    parts = []
    for _ in range(int(head[1:] or b"0")):
        size = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts


def bulk(content: bytes) -> bytes:
    """A bulk string of RESP2."""
    return b"$%d\r\n%b\r\n" % (len(content), content)


def reply_to(parts: list[bytes]) -> bytes:
    """What Redis says: the memory, or the key of the script's record."""
    return bulk(MEMORY if parts[0] == b"GET" else parts[3])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every command."""
    while parts := await read_command(reader):
        writer.write(reply_to(parts))


async def stay_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read, and answer nothing."""
    await reader.read()


def answering(answer: Callable[[list[bytes]], bytes]) -> Serve:
    """A server that answers each command so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while parts := await read_command(reader):
            writer.write(answer(parts))

    return serve


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server, as a URL."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(session, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"redis{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
