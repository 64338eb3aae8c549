"""A server that says, byte for byte, what a test wants it to say, and a client of DCS that calls it."""

import asyncio
import json
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache

import httpx2
import trustme

from schemas.request import parse
from worker.dcs.auth.auth_method import ReadyToken
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.dcs.transport import ServiceTransport, no_proxy
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.migration_request import MigrationRequest, migration

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = bytes | Play
"""What is said to a whole request; or what is done once the first byte of a request was read."""

AUTHORITY = trustme.CA()
EMPTY_PAGE = b'{"count":0,"migration_tasks":[]}'


@cache
def client_tls() -> ssl.SSLContext:
    """Trusts the servers of these tests."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


@cache
def server_tls(*names: str) -> ssl.SSLContext:
    """A certificate for loopback, or for other names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    return context


def http(status: int, body: bytes = b"", *headers: bytes, reason: bytes = b"Reason") -> bytes:
    """An answer with a length."""
    lines = [b"HTTP/1.1 %d %b" % (status, reason), b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def created(task: str = "NUMBER", *headers: bytes) -> bytes:
    """The answer of a create that has made this task; without a name, another one each time that it is given."""
    return http(200, b'{"instance_id":"%b"}' % task.encode(), *headers)


class RawServer:
    """Gives its answers one after the other, on whatever connection the requests come; the last one for ever."""

    def __init__(self, *answers: Answer, on_connect: Play | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        """Whole requests, as they came."""
        self.connections: list[asyncio.StreamWriter] = []
        self.serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.scheme = "http"
        self._on_connect = on_connect

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def creates(self) -> int:
        """How many creates came whole."""
        return sum(request.startswith(b"POST") for request in self.requests)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self.connections.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            if self._on_connect is not None:
                await self._on_connect(reader, writer)
            while not writer.is_closing() and (first := await reader.read(1)):
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if isinstance(answer, bytes):
                    await self.take(first, reader)
                    writer.write(answer.replace(b"NUMBER", b"%06d" % len(self.requests)))
                    await writer.drain()
                else:
                    await answer(reader, writer)
        writer.close()

    async def take(self, first: bytes, reader: asyncio.StreamReader) -> None:
        """Read the rest of a request."""
        head = first + await reader.readuntil(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
        length = sum(int(value) for name, _, value in lines if name == b"content-length")
        self.requests.append(head + await reader.readexactly(length))


@asynccontextmanager
async def serving(
    *answers: Answer, tls: ssl.SSLContext | None = None, on_connect: Play | None = None
) -> AsyncIterator[RawServer]:
    """A server on a port of its own."""
    server = RawServer(*answers, on_connect=on_connect)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
    server.port, server.scheme = listening.sockets[0].getsockname()[1], "https" if tls else "http"
    try:
        yield server
    finally:
        listening.close()
        for writer in server.connections:
            with suppress(AttributeError):  # Python 3.11.2: TLS that is closed already
                writer.transport.abort()
        if server.serving:
            _, stuck = await asyncio.wait(server.serving, timeout=5)
            assert not stuck, "a play does not end with its connection"


@asynccontextmanager
async def calling(
    url: str,
    *,
    deadline: float = 5.0,
    proxy: str | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    freeze_detector: FreezeDetector | None = None,
) -> AsyncIterator[DcsClient]:
    """A client of the service at `url`."""
    used = transport or ServiceTransport(client_tls(), deadline, (lambda *_: proxy) if proxy else no_proxy)
    try:
        yield client_over(used, url, deadline, freeze_detector)
    finally:
        await used.aclose()


def client_over(
    transport: httpx2.AsyncBaseTransport, url: str, deadline: float = 5.0, freeze_detector: FreezeDetector | None = None
) -> DcsClient:
    """A client of the service at `url`."""
    http_client = HttpClient(
        transport, deadline=deadline, freeze_detector=freeze_detector or FreezeDetector(lambda: 0.0)
    )
    return DcsClient(http_client, ReadyToken(lambda: "token"), {"r": url})


def an_order(request_id: str = "r-1", description: str = "") -> MigrationRequest:
    """An order of its own task."""
    ids = {"vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    task = {"name": "thrc", "description": description or "a task", **ids}
    content = {"request_id": request_id, "project_id": "p", "task": task}
    return migration(parse(json.dumps(content).encode(), max_bytes=65536), default_region="r", with_marker=True)


async def allowed() -> bool:
    """Nothing is against sending it."""
    return True


async def until(holds: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        await asyncio.sleep(0.001)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset instead of a FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
