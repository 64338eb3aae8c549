"""A real worker process with a private environment and folder."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from worker.tools.servers import LOOPBACK, ChildProcesses, PrivateServer, ServerFailedError, replies_with

STOP_TIMEOUT_SECONDS: Final = 40.0
WATCH_INTERVAL_SECONDS: Final = 0.05
READYZ_REQUEST: Final = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class WorkerProcessError(Exception):
    """The worker ended, or did not become ready; the text quotes its last output."""


class WorkerProcess(PrivateServer):
    """`dcs-worker run` as a child process, without our files, variables and terminal; it starts with `variables`."""

    kind: ClassVar[str] = "The worker"
    start_timeout_seconds: ClassVar[float] = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.variables: Mapping[str, str] = {}
        self._children = ChildProcesses()
        self.folder = self._children.folder
        self.log = self.folder / "output"

    def start(self) -> None:
        """Start the worker and wait until it consumes. Raises WorkerProcessError."""
        try:
            super().start()
        except ServerFailedError as error:
            raise WorkerProcessError(str(error)) from None

    def is_answering(self) -> bool:
        """Whether the worker is ready."""
        return replies_with(self.port, READYZ_REQUEST, b"HTTP/1.1 200")

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parents[3]),  # where this package was imported from
            **self.variables,
            "WORKER_HTTP_HOST": LOOPBACK,
            "WORKER_HTTP_PORT": str(self.port),
            "WORKER_SECRETS_DIR": str(self.folder),
            "WORKER_LOG_FORMAT": "json",
        }
        return children.spawn([sys.executable, "-m", "worker", "run"], environment)

    async def watch(self) -> None:
        """Run until the process has ended, then raise WorkerProcessError."""
        assert self._server is not None
        while True:
            if (status := self._server.poll()) is not None:
                raise WorkerProcessError(f"The worker ended with status {status}{self._last_output()}")
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def stop(self) -> None:
        """Stop it with SIGTERM. Raises WorkerProcessError when it does not end, or not with status 0."""
        assert self._server is not None
        self._server.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await self.watch()
        except TimeoutError:
            message = f"The worker did not end within {STOP_TIMEOUT_SECONDS:g} s{self._last_output()}"
            raise WorkerProcessError(message) from None
        except WorkerProcessError:
            if self._server.returncode:
                raise
