"""A cluster of three nodes that loses nodes: one is frozen, or two are dead, so that no queue has a majority."""

import asyncio
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aio_pika
import pytest

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tests.live.rabbitmq_cluster import Cluster, Member
from tools.harness.running_system import RunningSystem, WorkerProcess, machine_load_factor, request, until
from worker.rabbit.queue_probe import silence_reason

WORKS_SECONDS = 15.0
ANSWERED_SECONDS = 3.0
TOLD_SECONDS = 25.0
BACK_SECONDS = 60.0
SILENT = silence_reason(names.REQUEST_QUEUE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes."""
    with Cluster() as cluster:
        yield cluster


@pytest.mark.timeout(180)
async def test_new_worker_works_beside_a_frozen_node(cluster: Cluster, tmp_path: Path) -> None:
    """Whether or not its address is among the worker's; the topology exists."""
    healthy, _, frozen = cluster.members
    async with RunningSystem(healthy.url, tmp_path) as system:
        first = system.worker()
        await first.ready()
        first.process.terminate()
        await first.ended()
        await asyncio.sleep(1.0)  # as in the docstring of RabbitMqServer
        frozen.freeze()
        try:
            for number, urls in enumerate((healthy.url, f"{frozen.url},{healthy.url}", f"{healthy.url},{frozen.url}")):
                started_at = time.monotonic()
                worker = system.worker(WORKER_AMQP_URL=urls)
                await system.publish(request(f"beside-{number}", request_id=f"beside-{number}"))
                await system.answered(number + 1, WORKS_SECONDS)
                await worker.ready(WORKS_SECONDS - (time.monotonic() - started_at))
                assert time.monotonic() - started_at < WORKS_SECONDS * machine_load_factor()
                worker.process.terminate()
                await worker.ended()
        finally:
            frozen.thaw()
        system.assert_one_task_each([f"beside-{number}" for number in range(3)])


@pytest.mark.timeout(180)
async def test_reply_queues_on_frozen_node_hold_up_no_other_answer(cluster: Cluster, tmp_path: Path) -> None:
    """More of them than the prefetch: classic ones, each of another client, and a quorum queue. One event each."""
    healthy, _, frozen = cluster.members
    async with RunningSystem(healthy.url, tmp_path) as system, await system._connection.channel() as channel:
        answers = await channel.declare_queue("answers", exclusive=True)
        worker = system.worker()
        await worker.ready()
        async with await aio_pika.connect(frozen.url) as client, await client.channel() as theirs:
            await theirs.declare_queue("quorum", durable=True, arguments={"x-queue-type": "quorum"})
            silent = [(await theirs.declare_queue(f"client-{number}", exclusive=True)).name for number in range(70)]
            await asyncio.sleep(1.0)  # as in the docstring of RabbitMqServer
            frozen.freeze()
            try:
                for number, address in enumerate(["quorum", *silent]):
                    await system.publish(request(f"silent-{number}", f"silent-{number}"), reply_to=address)
                for number in range(20):
                    name = f"other-{number}"
                    await system.publish(request(name, name), reply_to="answers")
                    async with asyncio.timeout(ANSWERED_SECONDS * machine_load_factor()):
                        while (answer := await answers.get(fail=False, no_ack=True)) is None:
                            await asyncio.sleep(0.01)
                    assert json.loads(answer.body)["request_id"] == name
                await until(lambda: [line["event"] for line in worker.log()].count("reply.refused") == 71, 20)
                assert worker.metric("dcs_worker_in_flight_requests") == 0
            finally:
                frozen.thaw()
        events = await system.answered(71 + 20)
        assert {len(of_one) for of_one in events.values()} == {1}
        system.assert_one_task_each(list(events))


def _is_told(worker: WorkerProcess) -> bool:
    return SILENT in worker.get("/readyz")[1]


async def _start(members: list[Member]) -> None:
    await asyncio.gather(*(asyncio.to_thread(member.start) for member in members))


@pytest.mark.timeout(240)
async def test_queue_without_majority_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """By `/readyz` of a running worker and of one that starts; both work again once the nodes are back."""
    survivor, *others = cluster.members
    async with RunningSystem(survivor.url, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        await system.publish(request("before", request_id="before"))
        await system.answered(1)
        await asyncio.sleep(1.0)
        for member in others:
            await asyncio.to_thread(member.kill)
        late = system.worker()
        for each in (worker, late):
            await until(partial(_is_told, each), TOLD_SECONDS, each.explain)
            assert each.get("/readyz")[0] == 503
        await _start(others)
        for each in (worker, late):
            await until(lambda each=each: each.get("/readyz")[0] == 200, BACK_SECONDS, each.explain)  # type: ignore[misc]
        await system.publish(request("after", request_id="after"))
        await system.answered(2)
        system.assert_one_task_each(["before", "after"])


@pytest.mark.timeout(240)
async def test_lost_majority_is_told_with_all_hands_full(cluster: Cluster, tmp_path: Path) -> None:
    """No event is confirmed, so that no room is left to ask the queue with: `/readyz` says that, without a break."""
    survivor, *others = cluster.members
    async with RunningSystem(survivor.url, tmp_path, FaultyDcs(latency=0.3)) as system:
        worker = system.worker(WORKER_PREFETCH=4)
        await worker.ready()
        task_names = [f"full-{number}" for number in range(60)]
        for name in task_names:
            await system.publish(request(name, request_id=name))
        await system.answered(5)
        for member in others:
            await asyncio.to_thread(member.kill)
        await until(lambda: "not confirmed" in worker.get("/readyz")[1], TOLD_SECONDS, worker.explain)
        told_until = time.monotonic() + TOLD_SECONDS
        while time.monotonic() < told_until:
            assert worker.get("/readyz")[0] == 503
            await asyncio.sleep(0.2)
        await _start(others)
        await system.answered(len(task_names), BACK_SECONDS)
        await worker.ready()
        system.assert_one_task_each(task_names)
