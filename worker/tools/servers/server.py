"""Private servers on loopback: the base class (start, kill, remove), child processes and their folder, free ports.

Everything is synchronous and bound to no event loop, so that one server can be used from many loops. A coroutine that
must not block calls a method in a thread, `await asyncio.to_thread(server.start)`; `async with` does this itself.
"""

import asyncio
import os
import random
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

LOOPBACK = "127.0.0.1"

# Below the ranges of ephemeral ports: a client that keeps dialling a stopped server could otherwise get the server's
# port as its own and be connected to itself.
PORT_RANGE = range(15_000, 32_000)
_ports_returned: set[int] = set()
POLL_SECONDS = 0.05  # between two checks of a server that starts

WATCH_SCRIPT = """
trap "" INT TERM HUP
alive=
while read -r line; do alive=$line; done
[ -z "$alive" ] || kill -KILL $alive
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"""  # the second try is for a process that was still writing when it was killed


class ServerUnavailableError(Exception):
    """The server is not installed on this machine; the text is one sentence for an operator."""


class ServerFailedError(Exception):
    """The server did not start, or rejected a command; the text quotes it."""


class ChildProcesses:
    """A new temporary `folder` and the processes spawned in it, which never outlive this process.

    A small shell reads the ids of the live processes from a pipe that only this process holds (the last line counts).
    When the pipe closes, it kills them and removes the folder. The pipe closes on `close`, and on any end of this
    process, SIGKILL included.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dcs-worker-"))
        self._alive: list[subprocess.Popen[bytes]] = []
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH_SCRIPT, "watch", str(self.folder)],
            env={"PATH": os.defpath},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._watch.stdin is not None
        self._pipe = self._watch.stdin

    def spawn(self, command: Sequence[str], env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        """Start a process in a new session, so that Ctrl-C on our terminal does not reach it.

        `env` None: our own. Its output goes to `folder/output`. Raises OSError when it cannot be started.
        """
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._alive.append(process)
        self._report_alive()
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process (SIGKILL) and reap it. Idempotent."""
        if process in self._alive:
            process.kill()
            self._alive.remove(process)
            self._report_alive()
            process.wait()

    def close(self) -> None:
        """Kill and reap every process, remove the folder."""
        for process in list(self._alive):
            self.end(process)
        self._pipe.close()
        self._watch.wait()

    def _report_alive(self) -> None:
        alive = " ".join(str(process.pid) for process in self._alive)
        self._pipe.write(f"{alive}\n".encode())
        self._pipe.flush()


class PrivateServer(ABC):
    """A server on loopback, on a free port, with a private folder; it keeps its files over restarts.

    Use it as a context manager, plain or async: entering starts it, leaving kills it and removes its folder. Entering
    raises ServerUnavailableError when the server is not installed, ServerFailedError when it does not start.
    """

    kind: ClassVar[str]  # its name in messages
    start_timeout_seconds: ClassVar[float]  # from launch to the first answer

    def __init__(self) -> None:
        self.port = free_port()
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
            self._wait_until(self.is_answering, server, self.kind)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the server (SIGKILL), like a crash. Its files stay."""
        if self._server is not None and self._children is not None:
            self._children.end(self._server)
        self._server = None

    def close(self) -> None:
        """Kill the processes and remove the folder. The server cannot be started again. Idempotent."""
        with self._launch_lock:
            self._is_closed = True
            self._server = None
            if self._children is not None:
                self._children.close()
            self._children = None

    def _wait_until(self, is_answering: Callable[[], bool], process: subprocess.Popen[bytes], kind: str) -> None:
        deadline = time.monotonic() + self.start_timeout_seconds
        while not is_answering():
            if (status := process.poll()) is not None:
                raise ServerFailedError(f"{kind} ended while starting, status {status}{self._last_output()}")
            if time.monotonic() > deadline:
                limit = f"{self.start_timeout_seconds:g} s"
                raise ServerFailedError(f"{kind} did not start within {limit}{self._last_output()}")
            time.sleep(POLL_SECONDS)

    def _last_output(self) -> str:
        lines: list[str] = []
        with suppress(OSError):
            if self._children is not None:
                lines = (self._children.folder / "output").read_text(errors="replace").splitlines()
        output = [line.strip()[:300] for line in lines if line.strip()]
        errors = [line for line in output if "error" in line.lower()]
        return "; its last output:\n" + "\n".join(errors[:3] or output[-5:]) if output else "; it printed nothing."

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
