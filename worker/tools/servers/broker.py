"""A broker for whoever needs one now: the one given, else a private node, else a container."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import ClassVar

from worker.tools.servers.child_processes import ChildProcesses
from worker.tools.servers.ports import LOOPBACK, free_port, replies_with
from worker.tools.servers.rabbitmq import CONNECTION_START, PROTOCOL_HEADER, RabbitMqServer, find_server_scripts
from worker.tools.servers.server import PrivateServer, ServerUnavailableError

CONTAINER_IMAGE = "rabbitmq:4"
CONTAINER_ENGINES = ("docker", "podman")
ENGINE_TIMEOUT_SECONDS = 30.0  # seconds for a short command of the container engine


class RabbitMqContainer(PrivateServer):
    """RabbitMQ in a container, for a machine with an engine but no server; its files go whenever it ends.

    The first start fetches the image. Only here does a SIGKILL of our own process leave the server running: it is
    the engine's, not ours.
    """

    kind: ClassVar[str] = "RabbitMQ in a container"
    start_timeout_seconds: ClassVar[float] = 300.0

    def __init__(self, engine: str) -> None:
        super().__init__()
        self.port = free_port()
        self._engine = engine
        self._name = f"dcs-worker-{token_hex(6)}"

    @property
    def url(self) -> str:
        """The AMQP URL of vhost `/`."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    def is_answering(self) -> bool:
        """Whether the broker opens AMQP connections; the engine's own proxy may accept them long before."""
        return replies_with(self.port, PROTOCOL_HEADER, CONNECTION_START)

    def kill(self) -> None:
        """End our client of the engine, then the container, which would go on without it."""
        is_started = self.pid is not None
        super().kill()
        if is_started:
            _succeeds(self._engine, "rm", "--force", self._name)

    def close(self) -> None:
        """Take away container and folder."""
        self.kill()
        super().close()

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        publish = f"{LOOPBACK}:{self.port}:5672"
        return children.spawn(
            [self._engine, "run", "--rm", "--name", self._name, "--publish", publish, CONTAINER_IMAGE], None
        )


def find_container_engine() -> str | None:
    """Docker or Podman, whichever is installed and works; None when neither does."""
    return next((engine for engine in CONTAINER_ENGINES if shutil.which(engine) and _succeeds(engine, "info")), None)


@asynccontextmanager
async def open_broker(url: str | None) -> AsyncIterator[str]:
    """The AMQP URL of a broker, which is taken away at the end unless it was given as `url`.

    Raises ServerUnavailableError, with a sentence that says what would help, and ServerFailedError.
    """
    if url:
        yield url
        return
    async with await asyncio.to_thread(_new_broker) as node:
        yield node.url


def _new_broker() -> RabbitMqServer | RabbitMqContainer:
    if find_server_scripts() is not None:
        return RabbitMqServer()
    engine = find_container_engine()
    if engine is not None:
        return RabbitMqContainer(engine)
    raise ServerUnavailableError(
        "There is no broker to use: set WORKER_AMQP_URL, install rabbitmq-server, or start Docker or Podman."
    )


def _succeeds(*command: str) -> bool:
    try:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ENGINE_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0
