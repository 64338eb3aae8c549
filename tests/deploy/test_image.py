"""The image: built from the Dockerfile, and run with nothing that it does not need."""

import asyncio
import json
import os
import re
import signal
import time
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from tests.deploy.compose_file import SERVICES, Placed
from tests.deploy.containers import IMAGE, NARROW, ROOT, SEALED, Containers
from tests.deploy.lock_file_pins import shipped
from tests.deploy.replica_container import Replica
from tests.deploy.wheel_build import build, digest
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, free_port, request, until
from worker.tools import healthcheck

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
MIB = 1024 * 1024


@pytest.fixture
async def system(rabbit: RabbitMqServer, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """A broker, the fake DCS and a reader of events; workers are containers."""
    async with RunningSystem(rabbit.url, tmp_path) as system:
        yield system


def hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal; without one, the kernel keeps it from the first process."""
    (caught,) = re.findall(r"^SigCgt:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


async def test_image_serves_and_drains_sealed(containers: Containers, system: RunningSystem) -> None:
    """No writable place, no capability, 128 MB, user 10001: 200 requests succeed; a stop amid more hands back."""
    replica = Replica(containers, system)
    await replica.ready()
    names = [f"image-{number}" for number in range(200)]
    for name in names:
        await system.publish(request(name))
    await system.answered(100)
    assert containers.podman("healthcheck", "run", replica.id) == ""
    await system.answered(200)
    assert {event.key for event in system.events} == {"migration.succeeded"}
    system.assert_one_task_each(names)
    info = next(line for line in replica.get("/metrics").splitlines() if line.startswith("dcs_worker_build_info{"))
    assert f'version="{VERSION}"' in info
    assert 'python="3.13.' in info
    assert replica.peak() < 120 * MIB
    await system.fake_dcs.apply(latency=1.0)
    last = [f"image-last-{number}" for number in range(20)]
    for name in last:
        await system.publish(request(name))
    await until(lambda: any(call.operation == "create" and call.name in last for call in system.fake_dcs.calls), 20)
    assert await asyncio.to_thread(replica.stop) == 0
    assert replica.changes() == []
    done = {task.name for task in system.fake_dcs.tasks} & {*last}
    assert done  # what was in flight was finished; what had not begun was handed back, for the next to do
    successor = Replica(containers, system)
    await system.answered(220)
    assert await asyncio.to_thread(successor.stop) == 0
    system.assert_one_task_each(names + last)
    assert await system.all_empty((10, 60, 300, 1800))


async def test_worker_is_ready_soon(containers: Containers, system: RunningSystem) -> None:
    """The best of a few starts, for other work on the machine slows any of them down."""
    seconds = []
    for _ in range(4):
        replica = Replica(containers, system)
        started = int(containers.podman("inspect", "--format={{.State.StartedAt.UnixNano}}", replica.id)) / 1e9
        await replica.ready()
        seconds.append(time.time() - started)
        containers.podman("rm", "--force", "--time=10", replica.id)
    assert min(seconds) <= 1.2


async def test_nothing_tries_to_write(containers: Containers, system: RunningSystem) -> None:
    """With a writable root it leaves everything as it was too: no byte code, no cache, no file of its own."""
    replica = Replica(containers, system, NARROW)
    await replica.ready()
    await system.publish(request("image-writes"))
    await system.answered(1)
    assert await asyncio.to_thread(replica.stop) == 0
    assert replica.changes() == []


async def test_a_stop_during_the_start_drains_too(containers: Containers, system: RunningSystem) -> None:
    """SIGTERM that comes as soon as a first process can hear it, long before it is ready, ends it with 0."""
    replica = Replica(containers, system)
    await until(lambda: hears(replica.pid, signal.SIGTERM), 30)
    os.kill(replica.pid, signal.SIGTERM)
    assert containers.podman("wait", replica.id) == "0"


def test_health_check_fails_without_a_worker(containers: Containers) -> None:
    """Where nothing listens the image's own check says so."""
    kept = containers.podman("run", "--detach", *SEALED, "--entrypoint=sleep", IMAGE, "60")
    done = containers.podman(
        "exec", kept, "sh", "-c", f"WORKER_HTTP_PORT={free_port()} python -m worker.tools.healthcheck; echo $?"
    )
    assert done == "1"


async def test_fake_dcs_runs_in_the_image(containers: Containers, tmp_path: Path) -> None:
    """What the compose file starts as the fake DCS serves, passes its check there, and stops with 0."""
    port = str(free_port())
    placed = Placed({"8090": port, "0.0.0.0": "127.0.0.1"}, tmp_path)
    id_ = containers.podman("run", "--detach", *SEALED, IMAGE, *placed.command("fake-dcs"))
    check = [placed.text(word) for word in SERVICES["fake-dcs"]["healthcheck"]["test"][1:]]
    await until(lambda: _says(check[-1]) == "", 30, lambda: containers.podman("logs", id_))
    assert containers.podman("exec", id_, *check) == ""
    containers.podman("stop", "--time=20", id_)
    assert containers.podman("inspect", "--format={{.State.ExitCode}}", id_) == "0"


def _says(url: str) -> str:
    try:
        return healthcheck.ask(url)
    except OSError as error:
        return str(error)


def test_image_says_what_it_is(containers: Containers) -> None:
    """User, labels, command, signal and health check are those of the Dockerfile."""
    image = containers.look(IMAGE)
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image["Labels"].items()}
    assert (labels["title"], labels["version"], labels["revision"]) == ("dcs-migration-worker", VERSION, "0123abc")
    assert labels["base.name"] == "python:3.13-slim-trixie"
    config = image["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001:10001", ["dcs-worker"], ["run"])
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert image["Size"] < 200 * 10**6
    assert image["HealthCheck" if "HealthCheck" in image else "Healthcheck"]["Test"][-1] == "worker.tools.healthcheck"


def test_nothing_that_builds_is_left(containers: Containers) -> None:
    """No pip, compiler, cache or source is in the image, and nothing in it belongs to the worker's user."""
    find = "find / -xdev ( -path /proc -o -path /sys ) -prune -o ( {} ) -print"
    rooted = (*SEALED, "--user=0", "--cap-add=DAC_READ_SEARCH")
    tools = "-path */bin/pip* -o -path */bin/*cc -o -path */bin/make -o -path *-packages/pip -o -name ensurepip"
    places = "-path /src -o -path /dist -o -path /opt/tools -o -path /root/.cache/* -o -uid 10001"
    for what in (tools, places):
        found = containers.ask(*find.format(what).split(), options=rooted).splitlines()
        assert [path for path in found if not path.startswith("/usr/share/doc/")] == []
    assert containers.ask("python", "-c", "import sys; print(sys.prefix)") == "/opt/worker"


def test_image_holds_the_wheel_that_make_makes(containers: Containers, tmp_path: Path) -> None:
    """Another Debian and another Python build the very same bytes."""
    assert f"sha256={digest(build(tmp_path))}" in containers.told


def test_image_lists_its_materials(containers: Containers) -> None:
    """The bill of materials names exactly what the lock ships and the project itself, with licences and hashes."""
    text = containers.ask("cat", "/opt/worker/sbom.cdx.json")
    bill = json.loads(text)
    found = {(canonicalize_name(one["name"]), one["version"]) for one in bill["components"]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert found == set(shipped((ROOT / "requirements.lock").read_text()))
    assert [one["name"] for one in bill["components"] if not one.get("licenses")] == []
    lock = (ROOT / "requirements.lock").read_text()
    assert [one["name"] for one in bill["components"] if f"sha256:{one['hashes'][0]['content']}" not in lock] == []
    assert bill["metadata"]["component"]["name"] == "dcs-migration-worker"


def test_nothing_stays_mounted() -> None:
    """A store that is closed leaves neither mounts nor files."""
    with Containers() as containers:
        made = containers.buildah("from", "scratch")
        containers.buildah("mount", made)
        assert containers.mounts()
    assert containers.mounts() == []
    assert not containers._folder.exists()
