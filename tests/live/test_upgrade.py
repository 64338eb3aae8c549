"""Upgrade from 0.1.0: its queues are taken over as they are, and what waits in its retry queues is answered."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel

from tests.fixtures.frozen import FOLDER, headers, load
from tools.harness.running_system import RunningSystem, until

DELAYS = (0.5, 1.0, 1.5, 2.0)
"""`WORKER_RETRY_DELAYS` of 0.1.0, which are in the arguments of its queues."""
EACH = 250
TOPOLOGY = json.loads((FOLDER / "topology.json").read_text())
POSTPONED = [load("headers")[f"postponed_{level}_after_failed_call"] for level in (1, 2, 3, 4)]


async def declare_as_0_1_0(channel: AbstractChannel) -> None:
    """Declare what 0.1.0 declared, with the retry queues' delays shortened."""
    for exchange in TOPOLOGY["exchanges"]:
        await channel.declare_exchange(exchange["name"], exchange["type"], durable=True)
    for queue in TOPOLOGY["queues"]:
        arguments: dict[str, Any] = queue["arguments"]
        if "x-message-ttl" in arguments:
            level = int(queue["name"].rpartition(".")[2])
            arguments = arguments | {"x-message-ttl": round(DELAYS[level - 1] * 1000)}
        await channel.declare_queue(queue["name"], durable=True, arguments=arguments)
    for binding in TOPOLOGY["bindings"]:
        queue = await channel.get_queue(binding["queue"])
        await queue.bind(binding["exchange"], binding["routing_key"])


async def postpone_as_0_1_0(channel: AbstractChannel, prefix: str) -> list[str]:
    """Put 1,000 requests into the four retry queues as 0.1.0 did; their names, which are their request ids."""
    made: list[str] = []
    for level, message in enumerate(POSTPONED, start=1):
        names = [f"{prefix}-{level}-{number}" for number in range(EACH)]
        body = json.loads(message["body"])
        bodies = (body | {"request_id": name, "task": body["task"] | {"name": name}} for name in names)
        copies = (
            aio_pika.Message(json.dumps(one).encode(), headers=headers(message), **message["properties"])
            for one in bodies
        )
        await asyncio.gather(*(channel.default_exchange.publish(one, message["queue"]) for one in copies))
        made += names
    return made


async def test_requests_in_old_retry_queues_are_answered(vhost: str, tmp_path: Path) -> None:
    """1,000 requests that 0.1.0 had postponed get one task and one event each; its retry queues are empty then."""
    async with await aio_pika.connect(vhost) as connection, RunningSystem(vhost, tmp_path) as system:
        channel = await connection.channel()
        await declare_as_0_1_0(channel)
        waiting = await postpone_as_0_1_0(channel, "waiting")
        worker = system.worker()
        await worker.ready()
        events = await system.answered(len(waiting))
        assert sorted(events) == sorted(waiting)
        assert {event.key for event in system.events} == {"migration.succeeded"}
        system.assert_one_task_each(waiting)
        calls = [event.body["attempts"] for event in system.events]
        assert [calls.count(number) for number in (2, 3, 4, 5)] == [EACH] * 4  # those by 0.1.0 are counted
        for message in POSTPONED:
            assert await system.depth(message["queue"]) == 0
        await until(lambda: worker.metric("dcs_worker_in_flight_requests") == 0, 5)
        assert await system.all_empty()
