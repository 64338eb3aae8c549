"""Private RabbitMQ brokers: a node of the installed rabbitmq-server (3.10 or newer), or a container.

A node shares nothing with other brokers of the machine: it has its own epmd, cookie, node name, ports, folder and
environment, and runs as any user. The scripts beside the server's code are called directly, because the packaged
wrappers in /usr/sbin change the user and reject all but root.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import ClassVar

from worker.tools.servers.server import (
    LOOPBACK,
    ChildProcesses,
    PrivateServer,
    ServerUnavailableError,
    free_port,
    replies_with,
)

PACKAGED_SCRIPTS = Path("/usr/lib/rabbitmq/bin")
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
CONNECTION_START = b"\x01\x00\x00"  # a method frame on channel 0, sent by a broker that works
ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
CONTAINER_IMAGE = "rabbitmq:4"
CONTAINER_ENGINES = ("docker", "podman")
ENGINE_TIMEOUT_SECONDS = 30.0  # for a short command of the container engine


def server_scripts() -> Path:
    """The folder of rabbitmq-server and rabbitmqctl. Raises ServerUnavailableError."""
    if (PACKAGED_SCRIPTS / "rabbitmq-server").exists():
        return PACKAGED_SCRIPTS
    found = shutil.which("rabbitmq-server")
    if found is None:
        raise ServerUnavailableError("RabbitMQ is not installed: install the package rabbitmq-server.")
    return Path(found).resolve().parent


class PrivateBroker(PrivateServer):
    """A RabbitMQ server; `guest` has all rights in its vhost `/`."""

    @property
    def url(self) -> str:
        """The AMQP URL of vhost `/`."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}"  # some clients take a slash for a vhost without a name

    def is_answering(self) -> bool:
        """Whether it opens AMQP connections. A container engine's proxy may accept them long before."""
        return replies_with(self.port, PROTOCOL_HEADER, CONNECTION_START)


class RabbitMqNode(PrivateBroker):
    """A node of the installed RabbitMQ. It starts in about 6 s.

    A subclass may override `write_files`, to add to the configuration.
    """

    kind: ClassVar[str] = "RabbitMQ"
    start_timeout_seconds: ClassVar[float] = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._epmd_port, self._dist_port = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        server, env = server_scripts() / "rabbitmq-server", self.environment(children.folder)
        if self._epmd is None:
            self.write_files(children.folder)
            self._epmd = self._launch_epmd(children, env)
        return children.spawn([str(server)], env)

    def _launch_epmd(self, children: ChildProcesses, env: dict[str, str]) -> subprocess.Popen[bytes]:
        # A node without epmd starts one as a daemon, which would outlive it; so ours is started first.
        port = self._epmd_port
        epmd = children.spawn([_program_path("epmd"), "-port", str(port), "-address", LOOPBACK], env)
        self._wait_until(lambda: replies_with(port, b"\x00\x01n", port.to_bytes(4)), epmd, "epmd")
        return epmd

    def write_files(self, folder: Path) -> None:
        """Write cookie, configuration and the list of enabled plugins."""
        cookie = folder / ".erlang.cookie"
        cookie.write_text(token_hex(20))
        cookie.chmod(0o400)
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = {LOOPBACK}:{self.port}\n")
        (folder / "plugins").write_text("[].\n")

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment of the node's programs."""
        return {
            "PATH": f"{Path(_program_path('erl')).parent}:{os.defpath}",
            "HOME": str(folder),  # where Erlang looks for the cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP_SECONDS": "0",  # a failed start ends at once, without a dump
            "RABBITMQ_NODENAME": f"worker{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # With input allowed the script execs the Erlang VM instead of waiting for it: our child is the VM itself,
            # signals reach it, and waiting for it reaps it. -noinput then disables the shell again.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput +S 2:2 {ON_LOOPBACK}",
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # otherwise all nodes of a machine use its first cores
        }


def _program_path(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ServerUnavailableError(f"RabbitMQ cannot start without Erlang's {name} on the PATH.")
    return path


class RabbitMqContainer(PrivateBroker):
    """RabbitMQ in a container, for a machine with a container engine but no server; its files are lost when it ends.

    The first start fetches the image. A SIGKILL of this process leaves this server running, because it is a child of
    the engine.
    """

    kind: ClassVar[str] = "RabbitMQ in a container"
    start_timeout_seconds: ClassVar[float] = 300.0

    def __init__(self, engine: str) -> None:
        super().__init__()
        self._engine = engine
        self._name = f"dcs-worker-{token_hex(6)}"

    def kill(self) -> None:
        """Kill the engine's client, then the container, which would continue without it."""
        is_started = self.pid is not None
        super().kill()
        if is_started:
            _succeeds(self._engine, "rm", "--force", self._name)

    def close(self) -> None:
        """Remove container and folder."""
        self.kill()
        super().close()

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        publish = f"{LOOPBACK}:{self.port}:5672"
        return children.spawn(
            [self._engine, "run", "--rm", "--name", self._name, "--publish", publish, CONTAINER_IMAGE], None
        )


def find_container_engine() -> str | None:
    """Docker or Podman if installed and working, else None."""
    return next((engine for engine in CONTAINER_ENGINES if shutil.which(engine) and _succeeds(engine, "info")), None)


def new_broker() -> PrivateBroker:
    """A private node or container. Raises ServerUnavailableError, with a sentence that says what to do."""
    with suppress(ServerUnavailableError):
        server_scripts()
        return RabbitMqNode()
    engine = find_container_engine()
    if engine is not None:
        return RabbitMqContainer(engine)
    raise ServerUnavailableError(
        "There is no broker to use: name one with --broker, install rabbitmq-server, or start Docker or Podman."
    )


def _succeeds(*command: str) -> bool:
    try:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ENGINE_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0
