"""Faults of the broker: every request is answered in the end, with one task each."""

import asyncio
from pathlib import Path

import pytest

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, request, until

COUNT = 500
LOW = ("set_vm_memory_high_watermark", "absolute", "1000")
USUAL = ("set_vm_memory_high_watermark", "0.4")


def _slow(latency: float = 0.05) -> FaultyDcs:
    # Calls long enough that some are in flight whenever the fault comes.
    return FaultyDcs(latency=latency)


async def _publish(system: RunningSystem, prefix: str, count: int = COUNT) -> list[str]:
    task_names = [f"{prefix}-{number}" for number in range(count)]
    for name in task_names:
        await system.publish(request(name, request_id=name))
    return task_names


async def _empty(system: RunningSystem) -> None:
    async with asyncio.timeout(90):
        while not await system.all_empty():
            await asyncio.sleep(0.2)


@pytest.mark.timeout(150)
async def test_closed_connections_lose_no_request(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """`rabbitmqctl close_all_connections` with 500 requests queued: the worker reconnects and answers all."""
    async with RunningSystem(vhost, tmp_path, _slow()) as system:
        worker = system.worker(WORKER_PREFETCH=16)
        await worker.ready()
        task_names = await _publish(system, "closed")
        await system.answered(50)
        await rabbit.ctl("close_all_connections", "test")
        await system.answered(COUNT)
        system.assert_one_task_each(task_names)
        await _empty(system)


@pytest.mark.timeout(150)
async def test_memory_alarm_delays_events_without_second_create(own_rabbit: RabbitMqServer, tmp_path: Path) -> None:
    """A blocked connection delays events and logs it; afterwards they are published, and nothing is created twice."""
    async with RunningSystem(own_rabbit.url, tmp_path, _slow(0.3)) as system:
        worker = system.worker(WORKER_PREFETCH=16)
        await worker.ready()
        task_names = await _publish(system, "alarm")
        await own_rabbit.ctl(*LOW)
        await until(lambda: "blocks publishing" in worker.get("/readyz")[1], 15, worker.explain)
        assert worker.metric("dcs_worker_broker_blocked") == 1
        assert worker.metric("dcs_worker_consumption_paused", 'reason="blocked"') == 1
        assert worker.get("/livez")[0] == 200
        await own_rabbit.ctl(*USUAL)
        await system.answered(COUNT)
        system.assert_one_task_each(task_names)
        await until(lambda: worker.get("/readyz")[0] == 200, 10)
        await _empty(system)


@pytest.mark.timeout(150)
async def test_deleted_queues_and_exchange_are_declared_again(vhost: str, tmp_path: Path) -> None:
    """With requests in flight: created tasks get their event, the topology is declared again, consuming continues."""
    async with RunningSystem(vhost, tmp_path, _slow(1.0)) as system:
        worker = system.worker(WORKER_RECONCILE="ambiguous")
        await worker.ready()
        await _publish(system, "first", 1)  # until the credentials were accepted one call is under way
        await system.answered(1, 30)
        task_names = await _publish(system, "before", 6)
        await until(lambda: worker.metric("dcs_worker_in_flight_requests") == 6, 10, worker.explain)
        async with await system._connection.channel() as channel:
            await channel.queue_delete(names.REQUEST_QUEUE)
            await channel.queue_delete(names.retry_queue(names.REQUEST_QUEUE, 10))
            await channel.queue_delete(names.parked_queue(names.REQUEST_QUEUE))
        await system.answered(7, 30)
        await worker.ready()
        async with await system._connection.channel() as channel:
            await channel.exchange_delete(names.EVENT_EXCHANGE)
            queue = await channel.get_queue("test.events", ensure=False)
            await system.fake_dcs.apply({"latency": 0.0, "scripts": {"after": ["error 400 DCS.4026"] * 3 + ["ok"]}})
            await system.publish(request("after", request_id="after"))
            await until(lambda: worker.metric("dcs_worker_requests_received_total") >= 8, 10, worker.explain)
            await channel.declare_exchange(names.EVENT_EXCHANGE, "topic", durable=True)
            await queue.bind(names.EVENT_EXCHANGE, "#")
        await system.answered(8, 30)
        system.assert_one_task_each(["first-0", *task_names, "after"])


@pytest.mark.timeout(180)
async def test_killed_and_restarted_broker_loses_nothing(own_rabbit: RabbitMqServer, tmp_path: Path) -> None:
    """`kill -9` of the node with 500 requests in the queue: not ready meanwhile, all answered afterwards."""
    async with RunningSystem(own_rabbit.url, tmp_path, _slow()) as system:
        worker = system.worker(WORKER_PREFETCH=16)
        await worker.ready()
        await asyncio.sleep(1.0)  # RabbitMQ 3.10 may lose a quorum queue that was declared within the last half second
        task_names = await _publish(system, "killed")
        await system.answered(50)
        await asyncio.to_thread(own_rabbit.kill)
        await until(lambda: worker.get("/readyz")[0] == 503, 10, worker.explain)
        await asyncio.to_thread(own_rabbit.restart)
        await system.answered(COUNT, 90)
        system.assert_one_task_each(task_names)
        await _empty(system)
        assert worker.process.poll() is None


async def test_refusal_is_logged_in_the_words_of_the_broker(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """One line per connection and attempt, with host and port of the node; the AMQP library writes none."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(WORKER_AMQP_URL=f"amqp://guest:guest@127.0.0.1:{rabbit.port}/nowhere")
        await until(
            lambda: {line.get("link") for line in worker.log()} >= {"consumer", "publisher"}, 15, worker.explain
        )
        lines = [line for line in worker.log() if line["event"] not in ("worker.starting", "health.changed")]
        found = {(line["level"], line["event"], line["broker"], line["reason"]) for line in lines}
        reason = "NOT_ALLOWED - vhost nowhere not found"
        assert found == {("warning", "broker.disconnected", f"127.0.0.1:{rabbit.port}", reason)}
        assert all(0 < line["retry_in_seconds"] < 30 for line in lines)
        assert reason in worker.get("/readyz")[1]
