"""The programs of docs/senders.md, run with the rights of `deploy/rabbitmq/` beside a real worker."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.sender_programs import READER, ROOT, SENDERS, Program, end, start
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, request, until
from worker.rabbit.tools import definitions

pytestmark = [pytest.mark.senders, pytest.mark.timeout(300)]
PASSWORD = "the-secret-of-this-test"
DEPLOY = ROOT / "deploy" / "rabbitmq"
EMPTY, MISSING, IDLE = "without-queue", "without-exchange", "without-worker"
MANAGEMENT = "rabbitmq_management"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMqServer]:
    """A node with the users and rights of `deploy/rabbitmq/`, and vhosts that lack a queue, an exchange, a worker."""
    folder = tmp_path_factory.mktemp("broker")  # a node in a chroot sees temporary folders only
    for name in ("definitions.json", "permissions.json"):
        shutil.copy(DEPLOY / name, folder)
    with RabbitMqServer(plugins=[MANAGEMENT]) as node:
        node.run_ctl("import_definitions", str(folder / "definitions.json"))
        for user in (definitions.WORKER, definitions.SENDER, definitions.READER):
            node.run_ctl("add_user", user, PASSWORD)
        node.run_ctl("import_definitions", str(folder / "permissions.json"))
        node.run_ctl("set_user_tags", definitions.SENDER, "management")
        (folder / "vhosts.json").write_text(json.dumps(lacking()))
        node.run_ctl("import_definitions", str(folder / "vhosts.json"))
        yield node


def lacking() -> dict[str, Any]:
    """Definitions of the vhosts EMPTY, MISSING and IDLE."""
    names = (EMPTY, MISSING, IDLE)
    rights = {"user": definitions.SENDER, "configure": "^$", "write": "^dcs", "read": "^$"}
    exchange = {"name": "dcs.migration", "type": "direct", "durable": True}
    queue = {"name": "requests", "durable": True, "auto_delete": False, "arguments": {}}
    binding = {"source": "dcs.migration", "destination": "requests", "destination_type": "queue", "arguments": {}}
    return {
        "vhosts": [{"name": name} for name in names],
        "permissions": [rights | {"vhost": name} for name in names],
        "exchanges": [exchange | {"vhost": name} for name in (EMPTY, IDLE)],
        "queues": [queue | {"vhost": IDLE}],
        "bindings": [binding | {"vhost": IDLE, "routing_key": "create"}],
    }


def variables(node: RabbitMqServer, user: str, vhost: str = "") -> dict[str, str]:
    """The environment of a program."""
    url = node.vhost_url(vhost) if vhost else node.url
    return {
        "AMQP_URL": url.replace("guest:guest", f"{user}:{PASSWORD}"),
        "AMQP_USER": user,
        "AMQP_PASSWORD": PASSWORD,
        "AMQP_VHOST": vhost or "%2F",
        "MANAGEMENT_URL": f"http://127.0.0.1:{node.plugin_ports[MANAGEMENT]}",
    }


@pytest.fixture
async def system(broker: RabbitMqServer, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """Worker and fake DCS; the worker has its own rights only."""
    async with RunningSystem(broker.url, tmp_path) as system:
        own = variables(broker, definitions.WORKER)["AMQP_URL"]
        worker = system.worker(WORKER_AMQP_URL=own, WORKER_RETRY_DELAYS=None, WORKER_SETTLE=None)
        await worker.ready()
        yield system


@pytest.mark.parametrize("program", SENDERS, ids=lambda program: program.language)
async def test_documented_sender_gets_its_answer(
    broker: RabbitMqServer, system: RunningSystem, tmp_path: Path, program: Program
) -> None:
    """With the rights of a sender alone, and again with the same request: one task."""
    body = request(f"by-{program.language}")
    (tmp_path / "request.json").write_text(json.dumps(body))
    environment = variables(broker, definitions.SENDER)
    command = program.command(tmp_path)

    for _ in range(2):
        done = await asyncio.to_thread(end, start(command, tmp_path, environment))
        assert done.returncode == 0, done.stderr
        if program.language != "sh":
            assert json.loads(done.stdout)["request_id"] == body["request_id"]
            assert json.loads(done.stdout)["instance_id"]
    await until(lambda: len(system.by_request().get(body["request_id"], [])) >= 2, 20)
    system.assert_one_task_each([f"by-{program.language}"])


@pytest.mark.parametrize("vhost", [EMPTY, MISSING])
@pytest.mark.parametrize("program", SENDERS, ids=lambda program: program.language)
def test_documented_sender_fails_without_a_queue(
    broker: RabbitMqServer, tmp_path: Path, program: Program, vhost: str
) -> None:
    """A request that no queue takes is not taken for sent."""
    (tmp_path / "request.json").write_text(json.dumps(request("lost")))
    command = program.command(tmp_path)

    done = end(start(command, tmp_path, variables(broker, definitions.SENDER, vhost)))

    assert (done.returncode != 0, done.stdout) == (True, "")
    if program.language != "sh" and vhost == EMPTY:
        assert "no queue takes the request" in done.stderr or "UnroutableError" in done.stderr


@pytest.mark.parametrize("program", SENDERS[:-1], ids=lambda program: program.language)
def test_documented_sender_fails_with_its_connection(broker: RabbitMqServer, tmp_path: Path, program: Program) -> None:
    """The answer does not come any more: the sender does not wait for it."""
    (tmp_path / "request.json").write_text(json.dumps(request("unanswered")))
    process = start(program.command(tmp_path), tmp_path, variables(broker, definitions.SENDER, IDLE))
    waited = time.monotonic() + 60
    while "requests\t1" not in broker.run_ctl("list_queues", "--vhost", IDLE, "name", "messages"):
        assert time.monotonic() < waited
    broker.run_ctl("purge_queue", "--vhost", IDLE, "requests")

    broker.run_ctl("close_all_connections", "--vhost", IDLE, "maintenance")

    done = end(process, 20)
    assert (done.returncode > 0, done.stdout) == (True, "")
    assert done.stderr != ""


async def test_documented_reader_drops_repeats(broker: RabbitMqServer, system: RunningSystem, tmp_path: Path) -> None:
    """With the rights of a reader alone; an event that is published twice is handled once."""
    command = READER.command(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env=variables(broker, definitions.READER),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await until(lambda: "dcs-reader.migrations\t1" in broker.run_ctl("list_queues", "name", "consumers"), 20)
        first, last = request("first"), request("last")
        await system.publish(first)
        await system.publish(first)
        await until(lambda: len(system.events) == 2, 20)
        await system.publish(last)
        async with asyncio.timeout(30):
            lines = [(await process.stdout.readline()).decode() for _ in range(2)]
    finally:
        process.kill()
        await process.wait()

    assert [line.partition(" ")[0] for line in lines] == ["migration.succeeded"] * 2
    events = [json.loads(line.partition(" ")[2]) for line in lines]
    assert [event["request_id"] for event in events] == [first["request_id"], last["request_id"]]
