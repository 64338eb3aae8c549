"""One private server: started, stopped, killed, frozen, and gone without a trace when its user is done.

Everything here is synchronous and belongs to no event loop, so one node can serve many loops. A coroutine that
must not block runs a step in a thread, `await asyncio.to_thread(node.restart)`; `async with` does so by itself.
"""

import asyncio
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import ClassVar, Self

from worker.tools.servers.child_processes import ChildProcesses

POLL_SECONDS = 0.05  # seconds between two looks at a server that is starting
STOP_TIMEOUT_SECONDS = 20.0  # seconds that a server gets to end by itself


class ServerUnavailableError(Exception):
    """Such a server cannot be had on this machine; the text is one sentence for a person."""


class ServerFailedError(Exception):
    """The server did not start, or refused a command; the text says what it said."""


class PrivateServer(ABC):
    """A server of our own, on loopback, with a folder of its own that keeps its files from start to start.

    Use it as a context manager, plain or async: entering starts it, leaving takes it away at once, whatever state
    it is in. Entering raises ServerUnavailableError when the server is not installed, ServerFailedError when it does not start.
    """

    kind: ClassVar[str]  # its name in sentences
    start_timeout_seconds: ClassVar[float]  # seconds from launch to the first answer

    def __init__(self) -> None:
        self._children: ChildProcesses | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._launch_lock = threading.Lock()  # close() may come while another thread is starting

    @abstractmethod
    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        """Write what the server needs and spawn it."""

    @abstractmethod
    def is_answering(self) -> bool:
        """Whether the server answers a client now; takes 1 s at most."""

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while it is down."""
        return None if self._server is None else self._server.pid

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerUnavailableError, ServerFailedError.

        What is left of an earlier run, a server that still runs included, is killed first.
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
        """End the server in its own orderly way (SIGTERM), or by force after STOP_DEADLINE. Its files stay."""
        if self._server is not None:
            self._server.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_TIMEOUT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash would. Its files stay."""
        if self._server is not None and self._children is not None:
            self._children.end(self._server)
        self._server = None

    def restart(self) -> None:
        """Stop, then start on the same ports with the same files."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Halt the server in mid-air (SIGSTOP): its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Take away everything: processes, folder. For good; may be called more than once."""
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
