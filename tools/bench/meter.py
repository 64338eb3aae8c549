"""What goes over the worker's wires, counted: a proxy in front of the broker, and an HTTP endpoint."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from tools.bench.endpoint import Calls
from worker.tools.servers import LOOPBACK

PROTOCOL_HEADER = 8  # bytes that a client says first, which are no frame
FRAME_HEAD, FRAME_END = 7, 1
HEARTBEAT = 8
ACK = (60 << 16 | 80).to_bytes(4)
CHUNK = 1 << 16


class Frames:
    """Counts the frames in one direction of a connection, heartbeats left out (AMQP 0-9-1, 4.2.3)."""

    def __init__(self, counts: Counter[str], kind: str, skip: int = 0) -> None:
        self._counts = counts
        self._kind = kind
        self._skip = skip
        self._read = b""

    def feed(self, chunk: bytes) -> None:
        """Count what is whole by now."""
        skipped, self._skip = self._skip, max(0, self._skip - len(chunk))
        self._read += chunk[skipped:]
        while len(self._read) >= FRAME_HEAD:
            size = FRAME_HEAD + int.from_bytes(self._read[3:FRAME_HEAD], "big") + FRAME_END
            if len(self._read) < size:
                return
            if self._read[0] != HEARTBEAT:
                self._counts[f"{self._kind} frames"] += 1
                self._counts[f"{self._kind} bytes"] += size
            if self._read[FRAME_HEAD : FRAME_HEAD + 4] == ACK:
                self._counts[f"{self._kind} acks"] += 1
            self._read = self._read[size:]


@asynccontextmanager
async def metered_broker(url: str, counts: Counter[str]) -> AsyncIterator[str]:
    """The URL of a proxy in front of the broker at `url`. Whoever uses it must be gone when the context is left."""
    there = urlsplit(url)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(
            _pass_on(reader, far_writer, Frames(counts, "amqp sent", PROTOCOL_HEADER)),
            _pass_on(far_reader, writer, Frames(counts, "amqp received")),
        )

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield urlunsplit(there._replace(netloc=f"{there.username}:{there.password}@{LOOPBACK}:{port}"))
    finally:
        server.close()
        await asyncio.gather(*serving)
        await server.wait_closed()


@asynccontextmanager
async def metered_service(counts: Counter[str], latency: float) -> AsyncIterator[str]:
    """The base URL of an endpoint that has created every task after so many seconds."""
    server = await asyncio.get_running_loop().create_server(lambda: Calls(latency, counts), LOOPBACK, 0)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: Frames) -> None:
    try:
        while chunk := await reader.read(CHUNK):
            frames.feed(chunk)
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass  # one end was killed: so is the other
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
