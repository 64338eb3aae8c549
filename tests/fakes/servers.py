"""Private servers that tests and storms control: RabbitMQ with rabbitmqctl, and Redis; stopped, restarted, frozen."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from worker.tools.servers import (
    LOOPBACK,
    ChildProcesses,
    PrivateServer,
    RabbitMqNode,
    ServerFailedError,
    ServerUnavailableError,
    free_port,
    replies_with,
)
from worker.tools.servers.rabbitmq import ON_LOOPBACK, server_scripts

STOP_TIMEOUT_SECONDS = 20.0
CTL_TIMEOUT_SECONDS = 90.0
PLUGIN_PORTS = {"rabbitmq_management": "management.tcp", "rabbitmq_prometheus": "prometheus.tcp"}


class ControlledServer(PrivateServer):
    """A private server that can be stopped, restarted and frozen."""

    def stop(self) -> None:
        """Stop the server in an orderly way (SIGTERM), or kill it after STOP_TIMEOUT_SECONDS. Its files stay."""
        if self._server is not None:
            self._server.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_TIMEOUT_SECONDS)
        self.kill()

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

    def _signal(self, number: signal.Signals) -> None:
        if self._server is None:
            raise ServerFailedError(f"{self.kind} is not running")
        self._server.send_signal(number)


class RabbitMqServer(ControlledServer, RabbitMqNode):
    """A RabbitMQ node with vhosts, rabbitmqctl, plugins and further configuration.

    `config` holds further lines of rabbitmq.conf (TLS listeners, limits; their ports from free_port()). `plugins` are
    enabled from the start; those for management and Prometheus listen on `plugin_ports`. On 3.10, wait for a second
    between the declaration of a quorum queue and kill(): a queue declared less than half a second before may never get
    a leader again.
    """

    def __init__(self, *, config: Sequence[str] = (), plugins: Sequence[str] = ()) -> None:
        super().__init__()
        self.plugin_ports = {plugin: free_port() for plugin in plugins if plugin in PLUGIN_PORTS}
        self._config, self._plugins = config, plugins

    def vhost_url(self, vhost: str) -> str:
        """The AMQP URL of a vhost, its name percent-encoded; the empty name is vhost `/`."""
        return f"{self.url}/{vhost}"

    async def ctl(self, *args: str, deadline: float = CTL_TIMEOUT_SECONDS) -> str:
        """The output of `rabbitmqctl ARGS`. Raises ServerFailedError when it fails or exceeds `deadline` seconds."""
        return await asyncio.to_thread(self.run_ctl, *args, deadline=deadline)

    def run_ctl(self, *args: str, deadline: float = CTL_TIMEOUT_SECONDS) -> str:
        """The same as `ctl`, for code outside an event loop."""
        if self._children is None:
            raise ServerFailedError("RabbitMQ is not running")
        env = self.environment(self._children.folder) | {
            "RABBITMQ_CTL_ERL_ARGS": ON_LOOPBACK,
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",  # any free port: the default ten are shared by the whole machine
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
        }
        try:
            finished = subprocess.run(
                [str(server_scripts() / "rabbitmqctl"), "--quiet", *args],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=deadline,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailedError(f"rabbitmqctl {args[0]} took longer than {deadline:g} s") from error
        if finished.returncode:
            raise ServerFailedError(f"rabbitmqctl {args[0]}: {(finished.stderr or finished.stdout).strip()[-500:]}")
        return finished.stdout

    def write_files(self, folder: Path) -> None:
        """Write the node's files, with the further configuration and the plugins."""
        super().write_files(folder)
        lines = list(self._config)
        for plugin, port in self.plugin_ports.items():
            lines += [f"{PLUGIN_PORTS[plugin]}.ip = {LOOPBACK}", f"{PLUGIN_PORTS[plugin]}.port = {port}"]
        with (folder / "rabbitmq.conf").open("a") as config:
            config.writelines(f"{line}\n" for line in lines)
        (folder / "plugins").write_text(f"[{','.join(self._plugins)}].\n")


class RedisServer(ControlledServer):
    """A Redis server without persistence, from the installed redis-server; a restart loses all keys."""

    kind: ClassVar[str] = "Redis"
    start_timeout_seconds: ClassVar[float] = 20.0

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
