"""Memory in the containers' limits: a worker that repeats requests for long, and an operator's replay of very many."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from redis.asyncio import Redis

from schemas import names
from schemas.timestamp import to_text
from tests.deploy.containers import IMAGE, SEALED, Containers
from tests.deploy.replica_container import Replica
from tests.fakes.servers import RabbitMqServer, RedisServer
from tools.harness.parked_queue import park
from tools.harness.running_system import RunningSystem, request, until

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

WORKER_LIMIT, TOOLBOX_LIMIT = (*SEALED, "--memory=256m"), (*SEALED, "--memory=512m")
MIB = 1024 * 1024
BATCH = 2_000
WARM_UP, REPEATS = 12_000, 20_000
"""The first ones fill the memory of 4,096 requests. Then objects and traced memory stay the same (45 kB in 6,000
repeats), and the allocator's heap settles: 13.5 MiB in the first 10,000 of 40,000, then 1.5, 1.1 and 0.4. Of what is
measured here it takes 1.9 MiB."""


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """A broker, a DCS that refuses every task, and a reader of events."""
    with RabbitMqServer() as node:
        async with RunningSystem(node.url, tmp_path) as system:
            await system.fake_dcs.apply(faults={"error 400 DCS.4013": 1.0})
            yield system


async def fill(url: str) -> None:
    """Leave Redis no memory for anything."""
    async with Redis.from_url(url) as client:
        await client.config_set("maxmemory", 1)


async def answer_repeats(system: RunningSystem, channel: aio_pika.abc.AbstractChannel, first: int, count: int) -> None:
    """Publish requests as a worker's copies, which are repeats, and wait for their events."""
    headers: dict[str, Any] = {names.ROUND: 1, names.DELIVERIES: 1, names.FIRST_RECEIVED_AT: to_text(1_790_000_000.0)}
    for start in range(first, first + count, BATCH):
        bodies = (json.dumps(request(f"repeat-{number}")).encode() for number in range(start, start + BATCH))
        messages = (aio_pika.Message(body, headers=headers, delivery_mode=2) for body in bodies)
        await asyncio.gather(*(channel.default_exchange.publish(one, names.REQUEST_QUEUE) for one in messages))
        await until(lambda end=start + BATCH: len(system.events) >= end, 60)  # type: ignore[misc]


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_repeats_leave_no_memory_behind(containers: Containers, system: RunningSystem) -> None:
    """Each of 32,000 repeats is locked on the broker, for Redis is full: nothing stays of them, within 256 MiB."""
    with RedisServer() as redis:
        await fill(redis.url)
        replica = Replica(containers, system, WORKER_LIMIT, WORKER_CLAIMS_URL=redis.url)
        await replica.ready()
        async with await aio_pika.connect(system.amqp_url) as connection:
            channel = await connection.channel()
            await answer_repeats(system, channel, 0, WARM_UP)
            before = resident(replica.pid)
            await answer_repeats(system, channel, WARM_UP, REPEATS)
            grown = resident(replica.pid) - before
        assert {event.body["reason"] for event in system.events} == {"rejected"}
        assert "dcs_worker_claims_available 0.0" in replica.get("/metrics")
        assert grown <= 3 * MIB
        assert await asyncio.to_thread(replica.stop) == 0


async def test_replay_of_ten_thousand_fits_the_toolbox(containers: Containers, system: RunningSystem) -> None:
    """All of them are requests again, each once."""
    count = 10_000
    told = {"WORKER_AMQP_URL": system.amqp_url, "WORKER_AUTH_TOKEN": "t"}
    command = ("run", "--rm", *TOOLBOX_LIMIT, *(f"--env={name}={value}" for name, value in told.items()), IMAGE)
    containers.podman(*command, "topology", "apply")
    async with await aio_pika.connect(system.amqp_url) as connection:
        channel = await connection.channel()
        for start in range(0, count, BATCH):
            await park(channel, *(request(f"p-{number}", f"p-{number}") for number in range(start, start + BATCH)))
    replay = ("parked", "replay", "--all", "--canary=0", "--yes", "--json")
    output = await asyncio.to_thread(containers.podman, *command, *replay)
    assert json.loads(output)["replayed"] == count
    assert await system.depth(names.REQUEST_QUEUE) == count
    assert await system.depth(names.parked_queue(names.REQUEST_QUEUE)) == 0
