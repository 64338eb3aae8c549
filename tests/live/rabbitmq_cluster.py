"""A RabbitMQ cluster of private nodes on this machine."""

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from typing import Self

from tests.fakes.servers import RabbitMqServer
from worker.tools.servers import ChildProcesses, free_port

FORMED = 60.0  # seconds until every member sees all others


class Member(RabbitMqServer):
    """One node of a cluster: cookie, port of epmd and epmd itself are the cluster's."""

    def __init__(self, cluster: "Cluster") -> None:
        super().__init__()
        self._cluster = cluster
        self._epmd_port = cluster.epmd_port

    @property
    def name(self) -> str:
        """What it is called in the cluster."""
        return f"worker{self.port}@localhost"

    def write_files(self, folder: Path) -> None:
        """Write the node's files, with the cluster's members and cookie."""
        super().write_files(folder)
        with (folder / "rabbitmq.conf").open("a") as config:
            config.write("cluster_formation.peer_discovery_backend = classic_config\n")
            for number, peer in enumerate(self._cluster.members, 1):
                config.write(f"cluster_formation.classic_config.nodes.{number} = {peer.name}\n")
        cookie = folder / ".erlang.cookie"
        cookie.unlink()
        cookie.write_text(self._cluster.cookie)
        cookie.chmod(0o400)

    def _launch_epmd(self, _: ChildProcesses, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with self._cluster.launching:
            if self._cluster.epmd is None:
                self._cluster.epmd = super()._launch_epmd(self._cluster.children, env)
            return self._cluster.epmd


class Cluster:
    """Some nodes that are one broker; a context manager, like a node."""

    def __init__(self, size: int = 3) -> None:
        self.cookie = token_hex(20)
        self.epmd_port = free_port()
        self.epmd: subprocess.Popen[bytes] | None = None
        self.children = ChildProcesses()
        self.launching = threading.Lock()
        self.members: list[Member] = []
        self.members += [Member(self) for _ in range(size)]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.callback(self.children.close)
            for member in self.members:
                self._stack.callback(member.close)
            with ThreadPoolExecutor() as threads:
                list(threads.map(Member.start, self.members))
            for member in self.members:
                member.run_ctl("await_online_nodes", str(len(self.members)), deadline=FORMED)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def leader(self, queue: str) -> Member:
        """The member with the leader of a quorum queue."""
        rows = json.loads(self.members[0].run_ctl("list_queues", "name", "leader", "--formatter", "json"))
        found = {row["name"]: row["leader"] for row in rows}
        return next(member for member in self.members if member.name == found[queue])
