"""Whatever the broker does to its clients: every request is answered in the end, with one task each."""

import asyncio
from pathlib import Path

import pytest

from schemas import names
from tests.live.stage import Stage, request, until
from worker.tools.nodes import RabbitNode
from worker.tools.standin import StandIn, StandInSettings

COUNT = 500
LOW = ("set_vm_memory_high_watermark", "absolute", "1000")
USUAL = ("set_vm_memory_high_watermark", "0.4")


def _slow(latency: float = 0.05) -> StandIn:
    # Calls long enough that some are in flight whenever the fault comes.
    return StandIn(StandInSettings(latency=latency))


async def _publish(stage: Stage, prefix: str, count: int = COUNT) -> list[str]:
    wanted = [f"{prefix}-{number}" for number in range(count)]
    for name in wanted:
        await stage.publish(request(name, request_id=name))
    return wanted


async def _empty(stage: Stage) -> None:
    async with asyncio.timeout(30):
        while not await stage.all_empty():
            await asyncio.sleep(0.2)


@pytest.mark.timeout(150)
async def test_connections_closed_by_the_broker(rabbit: RabbitNode, vhost: str, tmp_path: Path) -> None:
    """`rabbitmqctl close_all_connections` with 500 requests in the pipe: consuming again by itself."""
    async with Stage(vhost, tmp_path, _slow()) as stage:
        worker = stage.worker(WORKER_PREFETCH=16)
        await worker.ready()
        wanted = await _publish(stage, "closed")
        await stage.answered(50)
        await rabbit.ctl("close_all_connections", "test")
        await stage.answered(COUNT)
        stage.assert_one_task_each(wanted)
        await _empty(stage)


@pytest.mark.timeout(150)
async def test_memory_alarm(own_rabbit: RabbitNode, tmp_path: Path) -> None:
    """A blocked connection holds the events back, says so, and lets them go afterwards; nothing is posted twice."""
    async with Stage(own_rabbit.url, tmp_path, _slow(0.3)) as stage:
        worker = stage.worker(WORKER_PREFETCH=16)
        await worker.ready()
        wanted = await _publish(stage, "alarm")
        await own_rabbit.ctl(*LOW)
        await until(lambda: "blocks publishing" in worker.get("/readyz")[1], 15, worker.explain)
        assert worker.metric("dcs_worker_broker_blocked") == 1
        assert worker.get("/livez")[0] == 200
        await own_rabbit.ctl(*USUAL)
        await stage.answered(COUNT)
        stage.assert_one_task_each(wanted)
        await until(lambda: worker.get("/readyz")[0] == 200, 10)
        await _empty(stage)


@pytest.mark.timeout(150)
async def test_queues_deleted_under_the_worker(vhost: str, tmp_path: Path) -> None:
    """The queue, a retry queue and the event exchange come back by themselves, and consuming goes on."""
    async with Stage(vhost, tmp_path) as stage:
        worker = stage.worker()
        await worker.ready()
        await stage.publish(request("before"))
        await stage.answered(1)
        async with await stage._connection.channel() as channel:
            await channel.queue_delete(names.REQUEST_QUEUE)
            await channel.queue_delete(names.retry_queue(names.REQUEST_QUEUE, 1))
        await until(lambda: worker.metric("dcs_worker_broker_connected") == 0, 10, worker.explain)
        await worker.ready()
        await stage.standin.apply({"scripts": {"after": ["error 400 DCS.4026"] * 3 + ["ok"]}})
        await stage.publish(request("after"))
        await stage.answered(2, 30)
        stage.assert_one_task_each(["before", "after"])


@pytest.mark.timeout(180)
async def test_broker_killed_and_restarted(own_rabbit: RabbitNode, tmp_path: Path) -> None:
    """`kill -9` of the node with 500 requests in the pipe: not ready meanwhile, all answered afterwards."""
    async with Stage(own_rabbit.url, tmp_path, _slow()) as stage:
        worker = stage.worker(WORKER_PREFETCH=16)
        await worker.ready()
        await asyncio.sleep(1.0)  # RabbitMQ 3.10 may lose a quorum queue that was declared within the last half second
        wanted = await _publish(stage, "killed")
        await stage.answered(50)
        await asyncio.to_thread(own_rabbit.kill)
        await until(lambda: worker.get("/readyz")[0] == 503, 10, worker.explain)
        await asyncio.to_thread(own_rabbit.restart)
        await stage.answered(COUNT, 90)
        stage.assert_one_task_each(wanted)
        await _empty(stage)
        assert worker.process.poll() is None
