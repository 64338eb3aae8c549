"""A cluster of three nodes that loses the leader of the requests queue under load. Part of `make test-brokers`."""

import asyncio
import time
from pathlib import Path

import pytest

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RedisServer
from tests.live.rabbitmq_cluster import Cluster
from tools.bench.servers import make_old
from tools.harness.running_system import RunningSystem, request
from worker.rabbit.connection import Brokers
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.topology import declare, describe

REQUESTS = 1_500
PER_SECOND = 75
KILLED_AFTER = 300
GAP = 5.0
HELD = 60.0
"""Seconds for which a quorum queue of RabbitMQ 4.3 withholds what it delivered to consumers of a node that is lost
(`consumer_disconnected_timeout`); up to 4.0 it returns it at once."""
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)
PLAN = describe(names.REQUEST_QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, RETRY_DELAYS)


async def _publish(system: RunningSystem, task_names: list[str]) -> None:
    """Steadily, each one confirmed."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number, name in enumerate(task_names):
            await asyncio.sleep(max(0.0, started + number / PER_SECOND - time.monotonic()))
            tasks.create_task(system.publish(request(name, request_id=name)))


async def _longest_pause(system: RunningSystem, publishing: asyncio.Task[None]) -> float:
    """The longest time without an event, for as long as requests are published."""
    longest, count, last = 0.0, len(system.events), time.monotonic()
    while not publishing.done():
        await asyncio.sleep(0.02)
        longest = max(longest, time.monotonic() - last)
        if len(system.events) > count:
            count, last = len(system.events), time.monotonic()
    return longest


@pytest.mark.timeout(300)
async def test_killed_queue_leader_loses_and_repeats_nothing(redis_node: RedisServer, tmp_path: Path) -> None:
    """Nothing is lost, each request has one task, and events pause for less than five seconds.

    With claims, as senders here do what senders do: a confirm that is late makes them publish a copy.
    """
    make_old(redis_node)
    with Cluster() as cluster:
        first, second, _ = cluster.members
        async with open_connection(Brokers((first.url,)), "test") as connection:
            await declare(connection, PLAN)
        leader = cluster.leader(names.REQUEST_QUEUE)
        beside = second if leader is first else first
        fake_dcs = FaultyDcs(latency=0.05)
        async with RunningSystem(beside.url, tmp_path, fake_dcs) as system:
            urls = ",".join(member.url for member in cluster.members)
            for worker in [system.worker(WORKER_AMQP_URL=urls, WORKER_CLAIMS_URL=redis_node.url) for _ in range(2)]:
                await worker.ready()
            task_names = [f"led-{number}" for number in range(REQUESTS)]
            publishing = asyncio.create_task(_publish(system, task_names))
            await system.answered(KILLED_AFTER)
            assert not publishing.done()

            await asyncio.to_thread(leader.kill)
            pause = await _longest_pause(system, publishing)
            await publishing
            await system.answered(REQUESTS, HELD + sum(RETRY_DELAYS))

            assert pause < GAP
            system.assert_one_task_each(task_names)
            assert await system.all_empty()

            await asyncio.to_thread(leader.start)
            assert cluster.leader(names.REQUEST_QUEUE) is not leader
