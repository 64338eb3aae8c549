"""A Redis server of our own, from the installed redis-server; it keeps nothing from start to start."""

import shutil
import subprocess
from typing import ClassVar

from worker.tools.servers.child_processes import ChildProcesses
from worker.tools.servers.ports import LOOPBACK, free_port, replies_with
from worker.tools.servers.server import PrivateServer, ServerUnavailableError


class RedisServer(PrivateServer):
    """A Redis server without persistence; a restart keeps the port and forgets every key."""

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
        """Whether it answers a PING."""
        return replies_with(self.port, b"PING\r\n", b"+PONG\r\n")

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerUnavailableError("Redis is not installed: install the package redis-server.")
        options = {"port": self.port, "bind": LOOPBACK, "save": "", "appendonly": "no", "dir": children.folder}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return children.spawn([program, *arguments], {"LANG": "C.UTF-8"})
