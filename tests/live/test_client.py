"""The typed client for senders, run as its documentation shows it."""

import asyncio
from pathlib import Path

import aio_pika
import pytest
from aiormq.exceptions import ChannelNotFoundEntity, PublishError

from schemas import names
from schemas.event import MigrationFailed, MigrationSucceeded
from schemas.request import Request, Task
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer
from tests.live.doctor_command import vhost_of
from tests.live.documented_client import documented_client
from tools.harness.running_system import RunningSystem

TASK = Task(name="one", vpc_id="v", subnet_id="s", security_group_id="g")


async def test_documented_client_lines_create_and_await(vhost: str, tmp_path: Path) -> None:
    """A request is sent, its event is returned typed; sent again it has the same outcome and no second task."""
    create = documented_client()
    fake_dcs = FaultyDcs(scripts={"refused": ["error 400 DCS.4922"]})
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        await system.worker().ready()
        migration = Request(project_id="p1", task=TASK)

        first, again = await create(vhost, migration), await create(vhost, migration)
        refused = await create(vhost, Request(project_id="p1", task=TASK.model_copy(update={"name": "refused"})))

        assert isinstance(first, MigrationSucceeded)
        assert first == again
        assert [task.task_id for task in system.fake_dcs.tasks] == [first.instance_id]
        assert isinstance(refused, MigrationFailed)
        assert refused.reason == "rejected"


async def test_lost_connection_is_an_error(rabbit: RabbitMqServer, vhost: str) -> None:
    """Not an end of the answers, which an iteration around the call would take for its own."""
    async with await aio_pika.connect(vhost) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(names.REQUEST_EXCHANGE, durable=True)
        queue = await channel.declare_queue(names.REQUEST_QUEUE, auto_delete=True)
        await queue.bind(exchange, names.REQUEST_KEY)
        answer = asyncio.create_task(documented_client()(vhost, Request(project_id="p1", task=TASK), patience=60))
        async with asyncio.timeout(20), queue.iterator(no_ack=True) as requests:
            await anext(requests)

    await rabbit.ctl("close_all_connections", "--vhost", vhost_of(vhost), "maintenance")

    with pytest.raises(ConnectionError, match="send the request again"):
        await answer


async def test_publish_without_exchange_or_queue_raises_exception(vhost: str) -> None:
    """Without the exchange, and without a queue behind it, the sender gets an exception."""
    create, migration = documented_client(), Request(project_id="p1", task=TASK)
    with pytest.raises(ChannelNotFoundEntity):
        await create(vhost, migration, patience=10)
    async with await aio_pika.connect(vhost) as connection, connection.channel() as channel:
        await channel.declare_exchange(names.REQUEST_EXCHANGE, durable=True)
        with pytest.raises(PublishError):
            await create(vhost, migration, patience=10)
