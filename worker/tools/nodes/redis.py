"""A Redis server of our own, from the installed redis-server; it keeps nothing from start to start."""

import shutil
import subprocess
from typing import ClassVar

from worker.tools.nodes.lifeline import Lifeline
from worker.tools.nodes.node import Node, NodeUnavailable
from worker.tools.nodes.ports import LOOPBACK, free_port, greets


class RedisNode(Node):
    """A Redis server without persistence; a restart keeps the port and forgets every key."""

    kind: ClassVar[str] = "Redis"
    start_deadline: ClassVar[float] = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def answers(self) -> bool:
        """Whether it answers a PING."""
        return greets(self.port, b"PING\r\n", b"+PONG\r\n")

    def _launch(self, lifeline: Lifeline) -> subprocess.Popen[bytes]:
        program = shutil.which("redis-server")
        if program is None:
            raise NodeUnavailable("Redis is not installed: install the package redis-server.")
        options = {"port": self.port, "bind": LOOPBACK, "save": "", "appendonly": "no", "dir": lifeline.folder}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return lifeline.spawn([program, *arguments], {"LANG": "C.UTF-8"})
