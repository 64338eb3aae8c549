"""What the Kubernetes manifests promise, kept by a real worker and a real Redis on this machine."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.kubernetes_manifests import COMPONENTS, KUBERNETES, built, container, one
from tests.deploy.test_kubernetes_numbers import bytes_of
from tests.fakes.faulty_dcs import FaultyDcs
from tests.live.redis_replicas import DONE, NOW, REDELIVERED, migration, replica
from tools.harness.runbook import commands
from tools.harness.running_system import RunningSystem, free_port, request, until
from worker.claims.redis_claims import RedisClaims
from worker.policy.outcome import Concluded, Granted, Unavailable
from worker.tools.fake_dcs.settings import Quota
from worker.tools.servers import replies_with

REQUESTS = 200
RUNBOOK = (KUBERNETES.parent / "runbook.md").read_text()
REFUSED = re.compile("^(AUTH failed|NOPERM|NOAUTH|ERR|WRONGPASS)", re.MULTILINE)
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


@dataclass
class DeployedRedis:
    """A Redis with the file of the Valkey component and the users of its example."""

    users: Path
    port: int

    def url(self, user: str, password: str) -> str:
        """The URL for such a login."""
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    async def run(self, command: str, url: str = "") -> str:
        """The reply to a command as printed, by default as the operator."""
        url = url or self.url("operator", "secret-TOO")
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command.replace("REDIS", url).replace("BYTES", "600mb")), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return output.decode()


@pytest.fixture
def deployed_redis(tmp_path: Path) -> Iterator[DeployedRedis]:
    """It runs."""
    folder, port = KUBERNETES / "components" / "valkey", free_port()
    users = tmp_path / "users.acl"
    users.write_text((folder / "users.acl.example").read_text().replace("CHANGE-ME", "secret"))
    (tmp_path / "redis.conf").write_text(
        (folder / "valkey.conf").read_text().replace(" /data", f" {tmp_path}").replace(" /etc/valkey", f" {tmp_path}")
        + f"port {port}\nbind 127.0.0.1\n"
    )
    program = shutil.which("redis-server")
    assert program is not None
    with subprocess.Popen([program, tmp_path / "redis.conf"], stdout=subprocess.DEVNULL) as process:
        try:
            yield DeployedRedis(users, port)
        finally:
            process.terminate()


async def test_redis_accepts_deployed_configuration(deployed_redis: DeployedRedis) -> None:
    """With its file and the rights in the example of its users claims work, and no other user may log in."""
    url = deployed_redis.url("worker", "secret")
    async with replica(url) as one_, replica(url) as other:
        await until(lambda: one_.is_available and other.is_available, 10)
        assert isinstance(await one_.take(migration(), NOW, REDELIVERED), Granted)
        await one_.conclude(migration(), DONE)
        assert await other.take(migration(), NOW, REDELIVERED) == Concluded(DONE)
    async with replica(f"redis://127.0.0.1:{deployed_redis.port}/0") as stranger:
        assert not stranger.is_available


async def test_operator_of_the_example_may_do_what_the_runbook_prints(deployed_redis: DeployedRedis) -> None:
    """Every command with redis-cli, in a block or a sentence; the worker may do next to none of them."""
    inline = re.findall(r"`(redis-cli [^`]+)`", RUNBOOK)
    printed = {line for line in (*commands(RUNBOOK), *inline) if line.startswith("redis-cli -u REDIS ")}
    assert len(printed) >= 7
    await until(lambda: replies_with(deployed_redis.port, b"PING\r\n", b"-NOAUTH"), 10)
    refused = {line: reply for line in printed if REFUSED.match(reply := await deployed_redis.run(line))}
    assert refused == {}
    assert "629145600" in await deployed_redis.run("redis-cli -u REDIS config get maxmemory")
    worker = deployed_redis.url("worker", "secret")
    assert REFUSED.match(await deployed_redis.run("redis-cli -u REDIS acl load", worker))


async def reconnected(claims: RedisClaims, request_id: str) -> None:
    """Return when it answers: that an idle connection was closed is noticed by the next command."""
    async with asyncio.timeout(10):
        while await claims.take(migration(request_id), NOW, REDELIVERED) == Unavailable():
            await asyncio.sleep(0.02)


async def test_password_of_redis_is_rotated_as_the_runbook_says(deployed_redis: DeployedRedis) -> None:
    """Between the printed commands the files change; what is held stays held, and only the new password is left."""
    chapter = RUNBOOK.partition("\n## Rotating the login of the broker or Redis\n")[2].partition("\n## ")[0]
    first, second = (
        [line for line in commands(block) if line.startswith("redis-cli ")]
        for block in re.findall(r"```sh\n.*?```", chapter, re.DOTALL)
        if "redis-cli" in block
    )
    old, new = (deployed_redis.url("worker", password) for password in ("secret", "new"))
    shipped = deployed_redis.users.read_text()
    now = [old]
    async with replica(lambda: now[0], lease=6.0) as claims, replica(new, lease=6.0) as other:
        await until(lambda: claims.is_available, 10)
        assert not other.is_available
        assert isinstance(await claims.take(migration(), NOW, REDELIVERED), Granted)
        deployed_redis.users.write_text(shipped.replace(">secret ", ">secret >new "))
        assert not REFUSED.search("\n".join([await deployed_redis.run(line) for line in first]))
        await reconnected(claims, "r-2")
        await reconnected(other, "r-3")
        now[0] = new
        deployed_redis.users.write_text(shipped.replace(">secret ", ">new "))
        assert not REFUSED.search("\n".join([await deployed_redis.run(line) for line in second]))
        assert REFUSED.search(await deployed_redis.run("redis-cli -u REDIS time", old))
        await reconnected(claims, "r-4")
        await reconnected(other, "r-5")
        assert claims.is_claimed(migration())
        await claims.conclude(migration(), DONE)
        assert await other.take(migration(), NOW, REDELIVERED) == Concluded(DONE)
