"""A create that was abandoned does not arrive later: one task, by a slow relay and by a flow that is dropped."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from urllib.parse import urlsplit

import httpcore2
import httpx2
import pytest
import uvloop

from tests.fakes.faulty_dcs import FaultyDcs
from tests.unit.dcs.raw_server import allowed, an_order, client_over
from worker.dcs.http_client import HttpClient, new_request
from worker.dcs.transport import ServiceTransport
from worker.policy.call_result import CallError, CallStatus, Evidence, TaskCreated, TaskNotFound
from worker.policy.freeze_detector import FreezeDetector

DEADLINE: Final = 1.0
Run = Callable[[Coroutine[None, None, None]], None]
RETRANSMISSIONS: Final = 4.0
"""Seconds in which the kernel would have sent again what it could not deliver, at 0.2, 0.4, 0.8 and 1.6 s."""


class Relay:
    """Passes connections on; the first one is not read before it is let go, and its receive buffer is tiny."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._listening.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        self.let_go = asyncio.Event()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.late = b""
        """What was read of the first connection."""

    async def run(self) -> None:
        """Accept connections."""
        while True:
            near, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            near.setblocking(False)
            is_first = not self._tasks
            self._tasks.add(asyncio.create_task(self._hold(near) if is_first else self._pass_on(near)))

    async def aclose(self) -> None:
        """End every connection."""
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hold(self, near: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await self.let_go.wait()
        far = socket.create_connection(("127.0.0.1", self._port))
        far.setblocking(False)
        try:
            while chunk := await loop.sock_recv(near, 1 << 16):
                self.late += chunk
                await loop.sock_sendall(far, chunk)
        except ConnectionError:
            pass
        finally:
            near.close()
            far.close()

    async def _pass_on(self, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.transport.abort()
                await asyncio.gather(end.wait_closed(), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def relaying(port: int) -> AsyncIterator[Relay]:
    """A relay in front of a port."""
    relay = Relay(port)
    running = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        running.cancel()
        await asyncio.wait({running})
        await relay.aclose()


RUNS: Final = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
"""Both event loops close sockets in ways of their own."""


@RUNS
def test_create_larger_than_the_window_of_a_relay_is_not_completed_later(run: Run) -> None:
    """The relay reads what it had of it once another create has worked: the rest never came."""
    run(_slow_relay())


async def _slow_relay() -> None:
    transport = ServiceTransport(ssl.create_default_context(), DEADLINE)
    async with FaultyDcs() as service, relaying(urlsplit(service.url).port or 0) as relay:
        dcs, migration = client_over(transport, relay.url, DEADLINE), an_order(description="x" * 1000)
        lost = await dcs.create(migration, allowed)
        assert isinstance(lost, CallError)
        assert (lost.evidence, lost.status) == (Evidence.AMBIGUOUS, CallStatus.TIMEOUT)
        assert await dcs.find(migration, 0.0) == TaskNotFound()
        assert isinstance(await dcs.create(migration, allowed), TaskCreated)
        relay.let_go.set()
        await asyncio.sleep(DEADLINE)
        assert len(service.tasks) == 1
        assert relay.late.startswith(b"POST ")
        assert migration.body[-20:] not in relay.late
    await transport.aclose()


def iptables(*rule: str) -> int:
    """The exit status of a command."""
    command = ["iptables", "--wait", "10", *rule]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def hindrance() -> str | None:
    """Why flows cannot be dropped here."""
    if os.geteuid() != 0:
        return "dropping a flow needs root"
    if shutil.which("iptables") is None:
        return "no iptables: apt-get install iptables"
    rule = ("INPUT", "--protocol", "tcp", "--source-port", "1", "--destination-port", "1", "--jump", "DROP")
    if iptables("--insert", *rule) != 0:
        return "this kernel or container does not allow dropping packets"
    iptables("--delete", *rule)
    return None


@contextmanager
def dropped(one: int, other: int) -> Iterator[None]:
    """Drop what two ports of this machine send each other."""
    rules = [
        ("INPUT", "--protocol", "tcp", "--source-port", str(a), "--destination-port", str(b), "--jump", "DROP")
        for a, b in ((one, other), (other, one))
    ]
    for rule in rules:
        assert iptables("--insert", *rule) == 0
    try:
        yield
    finally:
        for rule in rules:
            iptables("--delete", *rule)


@RUNS
def test_create_on_a_flow_that_was_dropped_does_not_arrive_when_it_heals(run: Run) -> None:
    """A firewall forgets a kept connection, and remembers it after another create has worked: one task."""
    if (why := hindrance()) is not None:
        pytest.skip(why)
    run(_dropped_flow())


async def _dropped_flow() -> None:
    transport = ServiceTransport(ssl.create_default_context(), DEADLINE)
    async with FaultyDcs() as service:
        dcs, migration = client_over(transport, service.url, DEADLINE), an_order()
        client = HttpClient(transport, deadline=DEADLINE, freeze_detector=FreezeDetector(lambda: 0.0))
        answer = await client.send(new_request("list", "GET", f"{service.url}/v2/p/migration-tasks"))
        assert isinstance(answer, httpx2.Response)
        kept: httpcore2.AsyncNetworkStream = answer.extensions["network_stream"]
        with dropped(kept.get_extra_info("client_addr")[1], urlsplit(service.url).port or 0):
            lost = await dcs.create(migration, allowed)
            assert isinstance(lost, CallError)
            assert (lost.evidence, lost.status) == (Evidence.AMBIGUOUS, CallStatus.TIMEOUT)
            assert await dcs.find(migration, 0.0) == TaskNotFound()
            assert isinstance(await dcs.create(migration, allowed), TaskCreated)
        await asyncio.sleep(RETRANSMISSIONS)
        assert len(service.tasks) == 1
    await transport.aclose()
