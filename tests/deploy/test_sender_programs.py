"""The programs of docs/senders.md, run with the rights of `deploy/rabbitmq/` beside a real worker."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.deploy.sender_programs import READER, ROOT, SENDERS, Program, run
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, request, until
from worker.rabbit.tools import definitions

pytestmark = [pytest.mark.senders, pytest.mark.timeout(300)]
PASSWORD = "the-secret-of-this-test"
DEPLOY = ROOT / "deploy" / "rabbitmq"
EMPTY = "without-queue"
MANAGEMENT = "rabbitmq_management"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMqServer]:
    """A node with the users and rights of `deploy/rabbitmq/`, and a vhost whose exchange has no queue."""
    folder = tmp_path_factory.mktemp("broker")  # a node in a chroot sees temporary folders only
    for name in ("definitions.json", "permissions.json"):
        shutil.copy(DEPLOY / name, folder)
    with RabbitMqServer(plugins=[MANAGEMENT]) as node:
        node.run_ctl("import_definitions", str(folder / "definitions.json"))
        for user in (definitions.WORKER, definitions.SENDER, definitions.READER):
            node.run_ctl("add_user", user, PASSWORD)
        node.run_ctl("import_definitions", str(folder / "permissions.json"))
        node.run_ctl("set_user_tags", definitions.SENDER, "management")
        exchange = {"name": "dcs.migration", "vhost": EMPTY, "type": "direct", "durable": True}
        rights = {"user": definitions.SENDER, "vhost": EMPTY, "configure": "^$", "write": "^dcs", "read": "^$"}
        empty = {"vhosts": [{"name": EMPTY}], "exchanges": [exchange], "permissions": [rights]}
        (folder / "empty.json").write_text(json.dumps(empty))
        node.run_ctl("import_definitions", str(folder / "empty.json"))
        yield node


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
        done = await asyncio.to_thread(run, command, tmp_path, environment)
        assert done.returncode == 0, done.stderr
        if program.language != "sh":
            assert json.loads(done.stdout)["request_id"] == body["request_id"]
            assert json.loads(done.stdout)["instance_id"]
    await until(lambda: len(system.by_request().get(body["request_id"], [])) >= 2, 20)
    system.assert_one_task_each([f"by-{program.language}"])


@pytest.mark.parametrize("program", SENDERS, ids=lambda program: program.language)
def test_documented_sender_fails_without_a_queue(broker: RabbitMqServer, tmp_path: Path, program: Program) -> None:
    """A request that no queue takes is not taken for sent."""
    (tmp_path / "request.json").write_text(json.dumps(request("lost")))
    command = program.command(tmp_path)

    done = run(command, tmp_path, variables(broker, definitions.SENDER, EMPTY))

    assert done.returncode != 0
    if program.language == "sh":
        assert done.stdout == ""
    else:
        assert "no queue takes the request" in done.stderr or "UnroutableError" in done.stderr


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
