"""Private servers on loopback: the base class (start, stop, kill, freeze, remove), free ports, and the Redis server.

Everything is synchronous and bound to no event loop, so that one server can be used from many loops. A coroutine that
must not block calls a method in a thread, `await asyncio.to_thread(server.restart)`; `async with` does this itself.
"""

import asyncio
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import ClassVar, Self

from worker.tools.servers.child_processes import ChildProcesses

LOOPBACK = "127.0.0.1"

# Below the ranges of ephemeral ports: a client that keeps dialling a stopped server could otherwise get the server's
# port as its own and be connected to itself.
PORT_RANGE = range(15_000, 32_000)
_ports_returned: set[int] = set()
POLL_SECONDS = 0.05  # between two checks of a server that starts
STOP_TIMEOUT_SECONDS = 20.0  # for an orderly stop


class ServerUnavailableError(Exception):
    """The server is not installed on this machine; the text is one sentence for an operator."""


class ServerFailedError(Exception):
    """The server did not start, or rejected a command; the text quotes it."""


class PrivateServer(ABC):
    """A server on loopback with a private folder, which keeps its files over restarts.

    Use it as a context manager, plain or async: entering starts it, leaving kills it and removes its folder. Entering
    raises ServerUnavailableError when the server is not installed, ServerFailedError when it does not start.
    """

    kind: ClassVar[str]  # its name in messages
    start_timeout_seconds: ClassVar[float]  # from launch to the first answer

    def __init__(self) -> None:
        self._children: ChildProcesses | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._launch_lock = threading.Lock()  # close() may come while another thread is starting

    @abstractmethod
    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        """Write the server's files and spawn it."""

    @abstractmethod
    def is_answering(self) -> bool:
        """Whether the server answers a client now; takes at most 1 s."""

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while it is stopped."""
        return None if self._server is None else self._server.pid

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerUnavailableError, ServerFailedError.

        A server that still runs is killed first.
        """
        self.kill()
        with self._launch_lock:
            if self._is_closed:
                raise ServerFailedError(f"{self.kind} was closed before it started")
            self._children = self._children or ChildProcesses()
            self._server = server = self._launch(self._children)
        try:
            self._wait_until_answering(server)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop the server in an orderly way (SIGTERM), or kill it after STOP_TIMEOUT_SECONDS. Its files stay."""
        if self._server is not None:
            self._server.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_TIMEOUT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the server (SIGKILL), like a crash. Its files stay."""
        if self._server is not None and self._children is not None:
            self._children.end(self._server)
        self._server = None

    def restart(self) -> None:
        """Stop, then start on the same ports with the same files."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Halt the server (SIGSTOP): its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue a frozen server."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill the processes and remove the folder. The server cannot be started again. Idempotent."""
        with self._launch_lock:
            self._is_closed = True
            self._server = None
            if self._children is not None:
                self._children.close()
            self._children = None

    def _signal(self, number: signal.Signals) -> None:
        if self._server is None:
            raise ServerFailedError(f"{self.kind} is not running")
        self._server.send_signal(number)

    def _wait_until_answering(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_timeout_seconds
        while not self.is_answering():
            if server.poll() is not None:
                raise ServerFailedError(f"{self.kind} ended while starting{self._last_output()}")
            if time.monotonic() > deadline:
                raise ServerFailedError(
                    f"{self.kind} did not start within {self.start_timeout_seconds:g} s{self._last_output()}"
                )
            time.sleep(POLL_SECONDS)

    def _last_output(self) -> str:
        lines: list[str] = []
        with suppress(OSError):
            if self._children is not None:
                lines = (self._children.folder / "output").read_text(errors="replace").splitlines()
        output = [line.strip()[:300] for line in lines if line.strip()]
        errors = [line for line in output if "error" in line.lower()]
        return "".join(f": {line}" for line in errors[:3] or output[-3:])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self.start)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


class RedisServer(PrivateServer):
    """A Redis server without persistence, from the installed redis-server; a restart loses all keys."""

    kind: ClassVar[str] = "Redis"
    start_timeout_seconds: ClassVar[float] = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def is_answering(self) -> bool:
        """Whether the server answers a PING."""
        return replies_with(self.port, b"PING\r\n", b"+PONG\r\n")

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerUnavailableError("Redis is not installed: install the package redis-server.")
        options = {"port": self.port, "bind": LOOPBACK, "save": "", "appendonly": "no", "dir": children.folder}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return children.spawn([program, *arguments], {"LANG": "C.UTF-8"})


def free_port() -> int:
    """A loopback port without a listener, which no earlier call in this process has returned."""
    while True:
        port = random.choice(PORT_RANGE)
        if port not in _ports_returned and _is_free(port):
            _ports_returned.add(port)
            return port


def replies_with(port: int, message: bytes, answer: bytes) -> bool:
    """Whether the server on a loopback port answers `message` with `answer` within 1 s."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(message)
            return connection.recv(len(answer), socket.MSG_WAITALL) == answer
    except OSError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
