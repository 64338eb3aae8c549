"""`deploy/rabbitmq/` on a real broker: imported, it is what the worker wants; its users can do their work, no more."""

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.exceptions import ChannelAccessRefused, PublishError

from schemas import names
from schemas.event import MigrationSucceeded
from schemas.request import Request
from tests.fakes.servers import RabbitMqServer
from tests.live.conftest import Vhosts
from tests.live.doctor_command import PASSWORD, apply, state, vhost_of
from tests.live.documented_client import documented_client
from tools.harness.parked_queue import CommandLine
from tools.harness.running_system import RunningSystem, request, until
from worker.rabbit.connection import Brokers, open_channel
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.tools.definitions import READER, SENDER, WORKER
from worker.rabbit.tools.sender import open_sender

DEPLOY = Path(__file__).parents[2] / "deploy" / "rabbitmq"
QUEUE = names.REQUEST_QUEUE
PARKED = names.parked_queue(QUEUE)
OWN = f"{READER}.audit"

Ask = Callable[[Channel], Awaitable[object]]


def imported(node: RabbitMqServer, name: str, vhost: str, folder: Path) -> None:
    """Import a file of `deploy/rabbitmq/`, made for vhost `/`, into another one."""
    text = (DEPLOY / name).read_text()
    for key in ("vhost", "name"):
        text = text.replace(f'"{key}": "/"', f'"{key}": "{vhost}"')
    path = folder / name
    path.write_text(text)
    node.run_ctl("import_definitions", str(path))


def shapes(node: RabbitMqServer, vhost: str) -> list[Any]:
    """Exchanges, queues and bindings of a vhost as the broker tells them, its name left out."""
    exported = json.loads(state(node))
    found = [
        {**one, "vhost": ""}
        for part in ("exchanges", "queues", "bindings")
        for one in exported[part]
        if one["vhost"] == vhost
    ]
    return sorted(found, key=json.dumps)


def test_definitions_equal_declared_topology(rabbit: RabbitMqServer, vhosts: Vhosts, tmp_path: Path) -> None:
    """Imported into an empty vhost they give what `topology apply` gives, and nothing is left for it to do."""
    one, other = vhosts.take(), vhosts.take()
    imported(rabbit, "definitions.json", vhost_of(one), tmp_path)
    apply(other, tmp_path)

    assert len(shapes(rabbit, vhost_of(one))) == 9
    assert shapes(rabbit, vhost_of(one)) == shapes(rabbit, vhost_of(other))

    apply(one, tmp_path)  # it would fail at a difference


@pytest.fixture
def users(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> Callable[[str], str]:
    """The URL of each user of `deploy/rabbitmq/` in a vhost that has the topology, and rights as they are there."""
    imported(rabbit, "definitions.json", vhost_of(vhost), tmp_path)
    for user in {WORKER, SENDER, READER} - set(rabbit.run_ctl("list_users", "--no-table-headers").split()):
        rabbit.run_ctl("add_user", user, PASSWORD)
    imported(rabbit, "permissions.json", vhost_of(vhost), tmp_path)
    return lambda user: vhost.replace("guest:guest", f"{user}:{PASSWORD}")


async def refused(connection: AbstractConnection, ask: Ask) -> bool:
    """Whether the broker refuses this for want of a right."""
    try:
        async with open_channel(connection, confirms=True) as channel:
            await ask(channel)
    except ChannelAccessRefused:
        return True
    return False


async def test_each_user_has_exactly_the_needed_rights(users: Callable[[str], str], vhost: str, tmp_path: Path) -> None:
    """The sender sends, the worker settles, retries, parks and locks, the reader reads; all else is refused."""
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(RunningSystem(vhost, tmp_path))
        worker, again, sender, reader = [
            await stack.enter_async_context(open_connection(Brokers((users(user),)), "test"))
            for user in (WORKER, WORKER, SENDER, READER)
        ]
        async with open_channel(reader) as channel:
            await channel.queue_declare(OWN, durable=True, arguments={"x-queue-type": "quorum"})
            await channel.queue_bind(OWN, names.EVENT_EXCHANGE, "migration.#")
        await system.fake_dcs.apply({"scripts": {"busy": ["error 400 DCS.4026"]}})
        process = system.worker(
            WORKER_AMQP_URL=users(WORKER), WORKER_RETRY_DELAYS=None, WORKER_SETTLE=None, WORKER_TRIES=1
        )
        await process.ready()
        async with open_sender(sender, names.REQUEST_EXCHANGE) as requests:
            await requests.send(json.dumps(request("good")).encode(), reply_to=OWN)
            await requests.send(json.dumps(request("busy")).encode())
            await requests.send(b"[]")

        read: list[str] = []
        async with open_channel(reader) as channel:

            async def take(message: Any) -> None:
                read.append(message.delivery.routing_key)

            await channel.basic_consume(OWN, take, no_ack=True)
            await until(lambda: len(read) >= 3, 20, process.explain)
        assert sorted(read) == [OWN, "migration.failed", "migration.succeeded"]
        await until(lambda: process.metric("dcs_worker_deliveries_settled_total", 'outcome="retried"') == 1, 20)
        assert await system.depth(names.retry_queue(QUEUE, 10)) == 1
        assert await system.depth(PARKED) == 1

        locks, others = BrokerLocks(QUEUE), BrokerLocks(QUEUE)
        stack.enter_context(locks.session(worker))
        stack.enter_context(others.session(again))
        assert await locks.take(("project", "id"))
        assert not await others.take(("project", "id")), "a refused lock is taken for one that is free"
        await locks.free(("project", "id"))
        assert await others.take(("project", "id"))

        for who, ask in REFUSED:
            connection = {WORKER: worker, SENDER: sender, READER: reader}[who]
            assert await refused(connection, ask), who


async def test_rights_of_a_sender_suffice_for_answers(users: Callable[[str], str], vhost: str, tmp_path: Path) -> None:
    """The documented client, `submit --wait` and the command of the rights page: each gets the outcome."""
    url = users(SENDER)
    async with RunningSystem(vhost, tmp_path) as system:
        await system.worker(WORKER_AMQP_URL=users(WORKER), WORKER_RETRY_DELAYS=None, WORKER_SETTLE=None).ready()

        answer = await documented_client()(url, Request.model_validate(request("client")))
        assert isinstance(answer, MigrationSucceeded)

        command_line = CommandLine({"WORKER_AMQP_URL": url}, tmp_path)
        body = json.dumps(request("options")).encode()
        sent = await command_line.run("submit", "-", "--wait", "--json", stdin=body)
        assert sent.status == 0, sent.errors

        header = ("project_id", "name", "vpc_id", "subnet_id", "security_group_id")
        (tmp_path / "requests.csv").write_text("\n".join((";".join(header), "p;page;v;s;g;;")))
        (line,) = re.findall(r"`WORKER_AMQP_URL=(\S+) dcs-worker ([^`]*)`", (DEPLOY / "README.md").read_text())
        assert line[0] == f"amqp://{SENDER}:PASSWORD@BROKER"
        shown = await command_line.run(*shlex.split(line[1]))
        assert shown.status == 0, shown.errors

        created = {task.name: task.task_id for task in system.fake_dcs.tasks}
        assert created.keys() == {"client", "options", "page"}
        assert created["client"] == answer.instance_id
        assert [result["instance_id"] for result in sent.answer["results"]] == [created["options"]]


async def test_alternate_exchange_replaces_mandatory(
    rabbit: RabbitMqServer, users: Callable[[str], str], vhost: str, tmp_path: Path
) -> None:
    """Before the import a wrong key is returned; after it, it is confirmed and kept: hence never both."""
    async with open_connection(Brokers((users(SENDER),)), "test") as connection:

        async def send(key: str) -> None:
            async with open_channel(connection, confirms=True) as channel:
                await channel.basic_publish(
                    key.encode(), exchange=names.REQUEST_EXCHANGE, routing_key=key, mandatory=True, timeout=10
                )

        with pytest.raises(PublishError):
            await send("creat")
        imported(rabbit, "alternate-exchange.json", vhost_of(vhost), tmp_path)
        # The broker applies a policy a moment after its import.
        async with asyncio.timeout(20):
            while True:
                try:
                    await send("creat")
                    break
                except PublishError:
                    await asyncio.sleep(0.05)
        await send(names.REQUEST_KEY)

    async with open_connection(Brokers((vhost,)), "test") as connection, open_channel(connection) as channel:
        kept = await channel.basic_get("dcs.migration.unroutable", no_ack=True)
        routed = await channel.basic_get(QUEUE, no_ack=True)
        assert (await channel.queue_declare("dcs.migration.unroutable", passive=True)).message_count == 0
    assert (kept.body, routed.body) == (b"creat", names.REQUEST_KEY.encode())


@pytest.mark.parametrize(
    ("write", "read", "lacking"),
    [
        (".*", "^$", f"queue '{QUEUE}'"),
        ("^amq.default$", ".*", f"exchange '{names.EVENT_EXCHANGE}'"),
        ("^dcs", ".*", "exchange 'amq.default'"),
    ],
    ids=["consume requests", "publish events", "publish copies"],
)
async def test_missing_right_is_logged_by_name(
    rabbit: RabbitMqServer, vhost: str, tmp_path: Path, write: str, read: str, lacking: str
) -> None:
    """The operation that needs the right is refused, and the log quotes the broker."""
    place = vhost_of(vhost)
    name = f"lacking-{place}"
    rabbit.run_ctl("add_user", name, PASSWORD)
    apply(vhost, tmp_path)
    rabbit.run_ctl("set_permissions", "-p", place, name, "^dcs", write, read)
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"busy": ["error 400 DCS.4026"]}})
        process = system.worker(
            WORKER_AMQP_URL=vhost.replace("guest:guest", f"{name}:{PASSWORD}"),
            WORKER_RETRY_DELAYS=None,
            WORKER_SETTLE=None,
            WORKER_TRIES=1,
        )
        for task in ("good", "busy"):
            await system.publish(request(task))
        # RabbitMQ 3.10 says "ACCESS_REFUSED - access to ...", later ones "ACCESS_REFUSED - read access to ...".
        refusal = re.compile(
            rf"ACCESS_REFUSED - (?:\w+ )?access to {lacking} in vhost '{place}' refused for user '{name}'"
        )
        await until(lambda: refusal.search(process.log_path.read_text()) is not None, 20, process.explain)


def test_documented_operator_rights_suffice_for_topology(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """The command of `deploy/rabbitmq/README.md` gives what `topology apply` needs."""
    documented = re.search(r"`rabbitmqctl set_permissions OPERATOR (.*)`", (DEPLOY / "README.md").read_text())
    assert documented
    name = f"operator-{vhost_of(vhost)}"
    rabbit.run_ctl("add_user", name, PASSWORD)
    rabbit.run_ctl("set_permissions", "-p", vhost_of(vhost), name, *shlex.split(documented[1]))
    apply(vhost.replace("guest:guest", f"{name}:{PASSWORD}"), tmp_path)


def _publish(exchange: str, key: str) -> Ask:
    return lambda channel: channel.basic_publish(b"{}", exchange=exchange, routing_key=key, timeout=10)


def _consume(queue: str) -> Ask:
    async def ignore(_: object) -> None:
        """Nothing is ever delivered."""

    return lambda channel: channel.basic_consume(queue, ignore, timeout=10)


REFUSED: list[tuple[str, Ask]] = [
    (WORKER, _publish(names.REQUEST_EXCHANGE, names.REQUEST_KEY)),
    (WORKER, _consume(PARKED)),
    (WORKER, lambda channel: channel.queue_declare("another", durable=True)),
    (WORKER, lambda channel: channel.queue_delete(QUEUE)),
    (WORKER, lambda channel: channel.queue_purge(PARKED)),
    (SENDER, _publish("", QUEUE)),
    (SENDER, _publish(names.EVENT_EXCHANGE, "migration.succeeded")),
    (SENDER, _consume(QUEUE)),
    (SENDER, lambda channel: channel.queue_declare("another")),
    (SENDER, lambda channel: channel.exchange_delete(names.REQUEST_EXCHANGE)),
    (READER, _publish(names.REQUEST_EXCHANGE, names.REQUEST_KEY)),
    (READER, _publish("", QUEUE)),
    (READER, _consume(QUEUE)),
    (READER, _consume(PARKED)),
    (READER, lambda channel: channel.queue_declare("another")),
    # Through such a queue state headers of a reader would reach the requests queue like a worker's.
    (READER, lambda channel: channel.queue_declare(f"{READER}.dead", arguments={"x-dead-letter-exchange": ""})),
    (READER, lambda channel: channel.queue_bind(OWN, names.REQUEST_EXCHANGE, names.REQUEST_KEY)),
    (READER, lambda channel: channel.queue_bind(QUEUE, names.EVENT_EXCHANGE, "#")),
]
"""User, and the operation that it must not be able to do."""
