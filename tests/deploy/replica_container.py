"""The worker in a container, beside a broker and a fake DCS on the host's loopback."""

import json
from urllib.request import urlopen

from tests.deploy.containers import IMAGE, SEALED, Containers
from tools.harness.running_system import TOKEN, RunningSystem, free_port, until


class Replica:
    """The worker in a container."""

    def __init__(
        self, containers: Containers, system: RunningSystem, options: tuple[str, ...] = SEALED, **environment: str
    ) -> None:
        secrets = system.folder / "secrets"
        secrets.mkdir(exist_ok=True)
        (secrets / "worker_auth_token").write_text(TOKEN)
        self.port = free_port()
        self._containers = containers
        told = {
            "WORKER_AMQP_URL": system.amqp_url,
            "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": system.fake_dcs.url}),
            "WORKER_HTTP_HOST": "127.0.0.1",
            "WORKER_HTTP_PORT": str(self.port),
        } | environment
        variables = [f"--env={name}={value}" for name, value in told.items()]
        self.id = containers.podman(
            "run", "--detach", *options, f"--volume={secrets}:/run/secrets:ro", *variables, IMAGE
        )

    def get(self, path: str) -> str:
        """A page of it; empty while there is none."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    async def ready(self) -> None:
        """Wait until it consumes."""
        await until(lambda: bool(self.get("/readyz")), 30, lambda: self._containers.podman("logs", self.id))

    @property
    def pid(self) -> int:
        """Of its first process, as the machine sees it."""
        return int(self._containers.podman("inspect", "--format={{.State.Pid}}", self.id))

    def stop(self) -> int:
        """`podman stop`: SIGTERM to the first process; the exit status."""
        self._containers.podman("stop", "--time=40", self.id)
        return int(self._containers.podman("inspect", "--format={{.State.ExitCode}}", self.id))

    def peak(self) -> int:
        """The most memory that it has had, in bytes."""
        read = "import glob; print(open(glob.glob('/sys/fs/cgroup/memory*/memory*max_usage*')[0]).read())"
        return int(self._containers.podman("exec", self.id, "python", "-c", read))

    def changes(self) -> list[str]:
        """What was changed in its root file system, less what the engine itself puts there."""
        lines = self._containers.podman("diff", self.id).splitlines()
        engine = ("/etc", "/run")  # hosts, resolv.conf, mtab; .containerenv and the place of the secrets
        return [line for line in lines if not line.split()[1].startswith(engine)]
