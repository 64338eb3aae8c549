"""The typed client for senders, run as its documentation shows it."""

from pathlib import Path

import aio_pika
import pytest
from aiormq.exceptions import ChannelNotFoundEntity, PublishError

from schemas import names
from schemas.event import MigrationFailed, MigrationSucceeded
from schemas.request import Request, Task
from tests.fakes.faulty_dcs import FaultyDcs
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


async def test_publish_without_exchange_or_queue_raises_exception(vhost: str) -> None:
    """Without the exchange, and without a queue behind it, the sender gets an exception."""
    create, migration = documented_client(), Request(project_id="p1", task=TASK)
    with pytest.raises(ChannelNotFoundEntity):
        await create(vhost, migration, patience=10)
    async with await aio_pika.connect(vhost) as connection, connection.channel() as channel:
        await channel.declare_exchange(names.REQUEST_EXCHANGE, durable=True)
        with pytest.raises(PublishError):
            await create(vhost, migration, patience=10)
