"""The Deployment itself, played by Podman: its pod does the work, sealed as it says, and ends on time."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from schemas.names import REQUEST_QUEUE
from tests.deploy.containers import IMAGE, ROOT, Containers
from tests.deploy.kubernetes_manifests import COMPONENTS, Manifest, built, container, one, pod
from tests.deploy.test_kubernetes_numbers import bytes_of
from tests.fakes.servers import RabbitMqServer
from tools.harness.parked_queue import ParkedQueueSetup
from tools.harness.running_system import TOKEN, RunningSystem, free_port, request, until

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

LIMITS = '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
"""Where limits cannot be raised, Podman must be told not to."""


class Pods(Containers):
    """Containers that Podman makes of manifests."""

    def __init__(self) -> None:
        super().__init__()
        conf = self._folder / "containers.conf"
        conf.write_text(LIMITS)
        self._env["CONTAINERS_CONF"] = str(conf)

    def play(self, path: Path, *options: str) -> str:
        """What `podman play kube` printed."""
        return self.podman("play", "kube", *options, str(path))

    def end(self, deployment: Manifest) -> None:
        """End the pod as a cluster would: a signal, and the grace that it asks for."""
        grace = pod(deployment).get("terminationGracePeriodSeconds", 30)
        self.podman("pod", "stop", f"--time={grace}", f"{deployment['metadata']['name']}-pod-0")


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    """Podman, with the image built from the Dockerfile."""
    base = ROOT / ".venv" / "base.tar"
    assert base.exists(), "the fake DCS for the base image is not made yet: run make test-deploy"
    with Pods() as pods:
        pods.make_base(base)
        pods.build()
        yield pods


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """A broker, the fake DCS and a reader of events; the worker is a pod."""
    with RabbitMqServer() as node:
        async with RunningSystem(node.url, tmp_path) as system:
            yield system


def here(system: RunningSystem, port: int, name: str = "dcs-worker") -> list[Manifest]:
    """A Deployment and its settings, for this machine: the host's network, and secrets in a folder of it."""
    manifests = built(COMPONENTS)
    deployment, settings = deepcopy(one(manifests, "Deployment", name)), deepcopy(one(manifests, "ConfigMap"))
    pod(deployment)["hostNetwork"] = True
    container(deployment).update(image=IMAGE, imagePullPolicy="Never")
    container(deployment).pop("ports", None)  # Podman would map them, and there is nothing to map on the host's network
    secrets = system.folder / "secrets"
    secrets.mkdir()
    (secrets / "worker_auth_token").write_text(TOKEN)
    (secrets / "worker_amqp_url").write_text(system.amqp_url)
    pod(deployment)["volumes"] = [{"name": "secrets", "hostPath": {"path": str(secrets), "type": "Directory"}}]
    settings["data"] |= {
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": system.fake_dcs.url}),
        "WORKER_HTTP_HOST": "127.0.0.1",
        "WORKER_HTTP_PORT": str(port),
    }
    return [settings, deployment]


def page(port: int, path: str) -> str:
    """A page of the worker; empty while there is none."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


async def test_the_deployment_works_and_drains(pods: Pods, system: RunningSystem) -> None:
    """A hundred requests; limits, user and seal are the manifest's; taken down amid calls, it finishes them first."""
    port, path = free_port(), system.folder / "deployment.yaml"
    path.write_text(yaml.safe_dump_all(here(system, port)))
    await asyncio.to_thread(pods.play, path)
    try:
        (name,) = [it for it in pods.podman("ps", "--format={{.Names}}").splitlines() if it.endswith("-worker")]
        await until(lambda: bool(page(port, "/readyz")), 30, lambda: pods.podman("logs", name))
        names = [f"pod-{number}" for number in range(100)]
        for task in names:
            await system.publish(request(task))
        await system.answered(100)
        found = json.loads(pods.podman("inspect", name))[0]
        limit = container(one(built(COMPONENTS), "Deployment"))["resources"]["limits"]["memory"]
        assert found["HostConfig"]["Memory"] == bytes_of(limit)
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["EffectiveCaps"] in (None, [])
        status = pods.podman("exec", name, "cat", "/proc/1/status")
        assert "Uid:\t10001\t10001" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        await system.fake_dcs.apply(latency=3.0)
        last = [f"pod-last-{number}" for number in range(8)]
        for task in last:
            await system.publish(request(task))
        # Those of which only the look-up has begun would be handed back, for the next replica.
        await until(lambda: sum(call.operation == "create" for call in system.fake_dcs.calls) == 108, 20)
        await asyncio.to_thread(pods.end, one(built(COMPONENTS), "Deployment"))
        assert pods.podman("inspect", "--format={{.State.ExitCode}}", name) == "0"
    finally:
        await asyncio.to_thread(pods.play, path, "--down")  # that alone would kill: it knows no grace
    await system.answered(108)
    system.assert_one_task_each(names + last)
    assert await system.all_empty((10, 60, 300, 1800))


async def test_toolbox_waits_and_runs_commands(pods: Pods, system: RunningSystem) -> None:
    """With its limit of memory; it ends with 0 as soon as it is told to."""
    deployment, path = one(built(COMPONENTS), "Deployment", "dcs-worker-toolbox"), system.folder / "toolbox.yaml"
    path.write_text(yaml.safe_dump_all(here(system, free_port(), "dcs-worker-toolbox")))
    setup = ParkedQueueSetup(system.amqp_url, {})
    await asyncio.to_thread(setup.declare)
    await asyncio.to_thread(setup.park_many, 10)
    await asyncio.to_thread(pods.play, path)
    try:
        (name,) = [it for it in pods.podman("ps", "--format={{.Names}}").splitlines() if it.endswith("-toolbox")]
        said = pods.podman("exec", name, "dcs-worker", "parked", "replay", "--all", "--canary=0", "--yes", "--json")
        assert json.loads(said)["replayed"] == 10
        assert await system.depth(REQUEST_QUEUE) == 10
        limit = container(deployment)["resources"]["limits"]["memory"]
        assert pods.podman("inspect", "--format={{.HostConfig.Memory}}", name) == str(bytes_of(limit))
        began = time.monotonic()
        await asyncio.to_thread(pods.end, deployment)
        assert time.monotonic() - began < 15  # of 30 that it has
        assert pods.podman("inspect", "--format={{.State.ExitCode}}", name) == "0"
    finally:
        await asyncio.to_thread(pods.play, path, "--down")
