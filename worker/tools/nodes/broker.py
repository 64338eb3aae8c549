"""A broker for whoever needs one now: the one given, else a private node, else a container."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import ClassVar

from worker.tools.nodes.lifeline import Lifeline
from worker.tools.nodes.node import Node, NodeUnavailable
from worker.tools.nodes.ports import LOOPBACK, free_port, greets
from worker.tools.nodes.rabbit import CONNECTION_START, PROTOCOL_HEADER, RabbitNode, server_scripts

IMAGE = "rabbitmq:4"
ENGINES = ("docker", "podman")
ENGINE_DEADLINE = 30.0  # seconds for a short command of the container engine


class ContainerNode(Node):
    """RabbitMQ in a container, for a machine with an engine but no server; its files go whenever it ends.

    The first start fetches the image. Only here does a SIGKILL of our own process leave the server running: it is
    the engine's, not ours.
    """

    kind: ClassVar[str] = "RabbitMQ in a container"
    start_deadline: ClassVar[float] = 300.0

    def __init__(self, engine: str) -> None:
        super().__init__()
        self.port = free_port()
        self._engine = engine
        self._name = f"dcs-worker-{token_hex(6)}"

    @property
    def url(self) -> str:
        """The AMQP URL of vhost `/`."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    def answers(self) -> bool:
        """Whether the broker opens AMQP connections; the engine's own proxy may accept them long before."""
        return greets(self.port, PROTOCOL_HEADER, CONNECTION_START)

    def kill(self) -> None:
        """End our client of the engine, then the container, which would go on without it."""
        is_started = self.pid is not None
        super().kill()
        if is_started:
            _run(self._engine, "rm", "--force", self._name)

    def close(self) -> None:
        """Take away container and folder."""
        self.kill()
        super().close()

    def _launch(self, lifeline: Lifeline) -> subprocess.Popen[bytes]:
        publish = f"{LOOPBACK}:{self.port}:5672"
        return lifeline.spawn([self._engine, "run", "--rm", "--name", self._name, "--publish", publish, IMAGE], None)


def container_engine() -> str | None:
    """Docker or Podman, whichever is installed and works; None when neither does."""
    return next((engine for engine in ENGINES if shutil.which(engine) and _run(engine, "info")), None)


@asynccontextmanager
async def open_broker(url: str | None) -> AsyncIterator[str]:
    """The AMQP URL of a broker, which is taken away at the end unless it was given as `url`.

    Raises NodeUnavailable, with a sentence that says what would help, and NodeFailed.
    """
    if url:
        yield url
        return
    async with await asyncio.to_thread(_choose) as node:
        yield node.url


def _choose() -> RabbitNode | ContainerNode:
    if server_scripts() is not None:
        return RabbitNode()
    engine = container_engine()
    if engine is not None:
        return ContainerNode(engine)
    raise NodeUnavailable(
        "There is no broker to use: set WORKER_AMQP_URL, install rabbitmq-server, or start Docker or Podman."
    )


def _run(*command: str) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ENGINE_DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
