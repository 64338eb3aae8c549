"""A RabbitMQ node of our own, from the installed rabbitmq-server (3.10 or newer), as root or as anyone else.

It shares nothing with a broker of the system or with its like: own epmd, cookie, node name, ports and folder, and
only the environment given here. The scripts beside the server's code are called directly: the packaged wrappers
in /usr/sbin change the user and refuse all but root.
"""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import ClassVar

from worker.tools.servers.child_processes import ChildProcesses
from worker.tools.servers.ports import LOOPBACK, free_port, replies_with
from worker.tools.servers.server import POLL_SECONDS, PrivateServer, ServerFailedError, ServerUnavailableError

PACKAGED_SCRIPTS = Path("/usr/lib/rabbitmq/bin")
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
CONNECTION_START = b"\x01\x00\x00"  # a method frame on channel 0: only a broker that is up sends one
EPMD_TIMEOUT_SECONDS = 30.0  # seconds
CTL_TIMEOUT_SECONDS = 90.0  # seconds
ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
PLUGIN_PORTS = {"rabbitmq_management": "management.tcp", "rabbitmq_prometheus": "prometheus.tcp"}


def find_server_scripts() -> Path | None:
    """The folder of rabbitmq-server and rabbitmqctl; None when RabbitMQ is not installed."""
    if (PACKAGED_SCRIPTS / "rabbitmq-server").exists():
        return PACKAGED_SCRIPTS
    found = shutil.which("rabbitmq-server")
    return Path(found).resolve().parent if found else None


class RabbitMqServer(PrivateServer):
    """A RabbitMQ node; `guest` may do everything in its vhost `/`.

    `config` holds further lines of rabbitmq.conf (TLS listeners, limits; their ports from free_port()). `plugins`
    are enabled from the start; those for management and Prometheus listen on `plugin_ports`. Without plugins a node
    is up in about 6 s. On 3.10, wait a second between declaring a quorum queue and kill(): one declared less than
    half a second before may never get a leader again.
    """

    kind: ClassVar[str] = "RabbitMQ"
    start_timeout_seconds: ClassVar[float] = 60.0

    def __init__(self, *, config: Sequence[str] = (), plugins: Sequence[str] = ()) -> None:
        super().__init__()
        self.port = free_port()
        self.plugin_ports = {plugin: free_port() for plugin in plugins if plugin in PLUGIN_PORTS}
        self._config, self._plugins = config, plugins
        self._epmd_port, self._dist_port = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The AMQP URL of vhost `/`."""
        return self.vhost_url("")

    def vhost_url(self, vhost: str) -> str:
        """The AMQP URL of the vhost of this name, percent-encoded; the empty name is that of vhost `/`."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/{vhost}"

    def is_answering(self) -> bool:
        """Whether the node opens AMQP connections. Cheaper to ask than rabbitmqctl, which takes half a second."""
        return replies_with(self.port, PROTOCOL_HEADER, CONNECTION_START)

    async def ctl(self, *args: str, deadline: float = CTL_TIMEOUT_SECONDS) -> str:
        """What `rabbitmqctl ARGS` printed. Raises ServerFailedError when it failed or took longer than `deadline` s."""
        return await asyncio.to_thread(self.run_ctl, *args, deadline=deadline)

    def run_ctl(self, *args: str, deadline: float = CTL_TIMEOUT_SECONDS) -> str:
        """The same as `ctl`, for code outside an event loop."""
        if self._children is None:
            raise ServerFailedError("RabbitMQ is not running")
        command = [str(_server_scripts() / "rabbitmqctl"), "--quiet", *args]
        env = self._env(self._children.folder)
        try:
            finished = subprocess.run(
                command,
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

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        server, env = _server_scripts() / "rabbitmq-server", self._env(children.folder)
        if self._epmd is None:
            self._write_files(children.folder)
            self._epmd = self._launch_epmd(children, env)
        return children.spawn([str(server)], env)

    def _launch_epmd(self, children: ChildProcesses, env: dict[str, str]) -> subprocess.Popen[bytes]:
        # A node that finds no epmd starts one as a daemon that outlives it; ours is there first, and ours to end.
        epmd = children.spawn([_program_path("epmd"), "-port", str(self._epmd_port), "-address", LOOPBACK], env)
        deadline = time.monotonic() + EPMD_TIMEOUT_SECONDS
        while not replies_with(self._epmd_port, b"\x00\x01n", self._epmd_port.to_bytes(4)):
            if time.monotonic() > deadline:
                raise ServerFailedError(f"epmd did not answer within {EPMD_TIMEOUT_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
        return epmd

    def _write_files(self, folder: Path) -> None:
        cookie = folder / ".erlang.cookie"
        cookie.write_text(token_hex(20))
        cookie.chmod(0o400)
        (folder / "rabbitmq.conf").write_text("\n".join([*self._listeners(), *self._config, ""]))
        (folder / "plugins").write_text(f"[{','.join(self._plugins)}].\n")

    def _listeners(self) -> list[str]:
        lines = [f"listeners.tcp.1 = {LOOPBACK}:{self.port}"]
        for plugin, port in self.plugin_ports.items():
            lines += [f"{PLUGIN_PORTS[plugin]}.ip = {LOOPBACK}", f"{PLUGIN_PORTS[plugin]}.port = {port}"]
        return lines

    def _env(self, folder: Path) -> dict[str, str]:
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
            # With input allowed the script becomes the Erlang VM instead of waiting for it: our child is the VM
            # itself, signals reach it, and waiting for it reaps it. -noinput then takes the shell away again.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput +S 2:2 {ON_LOOPBACK}",
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # nodes on one machine must not all sit on its first cores
            "RABBITMQ_CTL_ERL_ARGS": ON_LOOPBACK,
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",  # any free port: the usual ten are shared by the whole machine
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
        }


def _server_scripts() -> Path:
    scripts = find_server_scripts()
    if scripts is None:
        raise ServerUnavailableError("RabbitMQ is not installed: install the package rabbitmq-server.")
    return scripts


def _program_path(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ServerUnavailableError(f"RabbitMQ cannot start without Erlang's {name} on the PATH.")
    return path
