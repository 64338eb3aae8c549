"""What the Kubernetes manifests promise, kept by a real worker and a real Redis on this machine."""

import json
import shutil
import subprocess
import time
from pathlib import Path

from tests.deploy.kubernetes_manifests import COMPONENTS, KUBERNETES, built, container, one
from tests.deploy.test_kubernetes_numbers import bytes_of
from tests.fakes.faulty_dcs import FaultyDcs
from tests.live.redis_replicas import DONE, NOW, migration, replica
from tools.harness.running_system import RunningSystem, free_port, request, until
from worker.policy.outcome import Concluded, Granted
from worker.tools.fake_dcs.settings import Quota

REQUESTS = 200
ROOM = 0.41
"""Share of the memory limit that a worker under load may fill."""


def peak(pid: int) -> int:
    """The most memory that a process had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


async def test_memory_at_full_prefetch_is_below_limit(vhost: str, tmp_path: Path) -> None:
    """As the ConfigMap tells it, secrets as files, holding 64 of the largest requests: most of the limit is left."""
    manifests = built(COMPONENTS)
    variables = dict(one(manifests, "ConfigMap")["data"])
    limit = bytes_of(container(one(manifests, "Deployment"))["resources"]["limits"]["memory"])
    (tmp_path / "worker_amqp_url").write_text(f"{vhost}\n")
    (tmp_path / "worker_auth_token").write_text("t" * 64)
    async with RunningSystem(vhost, tmp_path, FaultyDcs(latency=0.2)) as system:
        variables["WORKER_SECRETS_DIR"] = str(tmp_path)
        worker = system.worker(**variables, WORKER_AMQP_URL=None, WORKER_AUTH_TOKEN=None, WORKER_RETRY_DELAYS=None)
        await worker.ready()
        for number in range(REQUESTS):
            body = json.dumps(request(f"task-{number}")).encode()
            await system.publish(body + b" " * (65_536 - len(body)))
        await system.answered(REQUESTS)
        assert worker.metric("dcs_worker_concurrency_limit") > 8  # the prefetch was used up
        assert peak(worker.pid) < limit * ROOM
        worker.process.terminate()
        assert await worker.ended() == 0


async def test_quota_bounds_calls_in_flight(vhost: str, tmp_path: Path) -> None:
    """Ten calls a second of 0.2 s each: two in flight on average, however many requests wait."""
    fake_dcs = FaultyDcs(latency=0.2, quota=Quota(limit=10, policy="api"))
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        worker = system.worker(WORKER_PREFETCH=16)
        await worker.ready()
        for number in range(REQUESTS):
            await system.publish(request(f"task-{number}"))
        found = []
        for count in (50, 100):
            await system.answered(count)
            found.append((worker.metric("dcs_worker_dcs_call_duration_seconds_sum"), time.monotonic()))
        (seconds, began), (more, ended) = found
        assert 1.0 < (more - seconds) / (ended - began) < 4.0


async def test_redis_accepts_deployed_configuration(tmp_path: Path) -> None:
    """With its file and the rights in the example of its users claims work, and no other user may log in."""
    folder, port = KUBERNETES / "components" / "valkey", free_port()
    users = (folder / "users.acl.example").read_text().replace("CHANGE-ME", "secret")
    (tmp_path / "users.acl").write_text(users)
    (tmp_path / "redis.conf").write_text(
        (folder / "valkey.conf").read_text().replace(" /data", f" {tmp_path}").replace(" /etc/valkey", f" {tmp_path}")
        + f"port {port}\nbind 127.0.0.1\n"
    )
    program = shutil.which("redis-server")
    assert program is not None
    with subprocess.Popen([program, tmp_path / "redis.conf"], stdout=subprocess.DEVNULL) as process:
        try:
            url = f"redis://worker:secret@127.0.0.1:{port}/0"
            async with replica(url) as one_, replica(url) as other:
                await until(lambda: one_.is_available and other.is_available, 10)
                assert isinstance(await one_.take(migration(), NOW), Granted)
                await one_.conclude(migration(), DONE)
                assert await other.take(migration(), NOW) == Concluded(DONE)
            async with replica(f"redis://127.0.0.1:{port}/0") as stranger:
                assert not stranger.is_available
        finally:
            process.terminate()
