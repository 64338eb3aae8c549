"""A real worker process with a private environment and folder."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from worker.tools.servers import LOOPBACK, ChildProcesses, free_port

READY_TIMEOUT_SECONDS: Final = 60.0
STOP_TIMEOUT_SECONDS: Final = 40.0
POLL_SECONDS: Final = 0.05
MAX_LAST_LINES: Final = 5


class WorkerProcessError(Exception):
    """The worker ended, or did not become ready; the text quotes its last output."""


class WorkerProcess:
    """`dcs-worker run` as a child process, without our files, variables and terminal; it never outlives us.

    `with WorkerProcess() as replica` has a private folder, empty but for its output; leaving kills the process and
    removes the folder.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._children = ChildProcesses()
        self.folder = self._children.folder
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<WorkerProcess {'not started' if self._process is None else self._process.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._children.close()

    @property
    def url(self) -> str:
        """The URL of its HTTP pages."""
        return f"http://{LOOPBACK}:{self.port}"

    def variables(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The worker's variables: `settings`, its HTTP address and its secrets folder."""
        return {
            **settings,
            "WORKER_HTTP_HOST": LOOPBACK,
            "WORKER_HTTP_PORT": str(self.port),
            "WORKER_SECRETS_DIR": str(self.folder),
            "WORKER_LOG_FORMAT": "json",
        }

    @contextmanager
    def running(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Start the worker with these variables only; leaving kills it if it still runs."""
        environment = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parents[3]),  # where this package was imported from
            **variables,
        }
        self._process = self._children.spawn([sys.executable, "-m", "worker", "run"], environment)
        try:
            yield
        finally:
            self._children.end(self._process)

    async def ready(self) -> None:
        """Wait until it consumes. Raises WorkerProcessError."""
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while not await self._is_ready():
            self._check()
            if time.monotonic() > deadline:
                raise WorkerProcessError(
                    f"The worker was not ready within {READY_TIMEOUT_SECONDS:g} s{self._last_output()}"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def watch(self) -> None:
        """Run until the process has ended, then raise WorkerProcessError."""
        while True:
            self._check()
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """Stop it with SIGTERM. Raises WorkerProcessError when it does not end, or not with status 0."""
        assert self._process is not None
        self._process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while (status := self._process.poll()) is None:
            if time.monotonic() > deadline:
                raise WorkerProcessError(
                    f"The worker did not end within {STOP_TIMEOUT_SECONDS:g} s{self._last_output()}"
                )
            await asyncio.sleep(POLL_SECONDS)
        if status:
            raise WorkerProcessError(f"The worker drained with status {status}{self._last_output()}")

    def _check(self) -> None:
        status = None if self._process is None else self._process.poll()
        if status is not None:
            raise WorkerProcessError(f"The worker ended with status {status}{self._last_output()}")

    async def _is_ready(self) -> bool:
        with suppress(OSError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        return False

    def _last_output(self) -> str:
        with suppress(OSError):
            lines = (self.folder / "output").read_text(errors="replace").splitlines()
            if lines:
                return "; its last output:\n" + "\n".join(lines[-MAX_LAST_LINES:])
        return "; it printed nothing."
