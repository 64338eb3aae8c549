"""The consumer, and the counts of its queues, without a worker on a real broker."""

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

from aio_pika.abc import AbstractConnection

from schemas import names
from tools.harness.running_system import RunningSystem, until
from tools.storms.throttle_storm import publish
from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.connection import Brokers, connected
from worker.rabbit.consumer import Consumer
from worker.rabbit.delivery import RabbitDelivery
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.queue_counts import QueueCounts
from worker.rabbit.topology import declare, describe


async def test_consumer_holds_at_most_prefetch(vhost: str, tmp_path: Path) -> None:
    """Also when paused, resumed or given another prefetch with deliveries unsettled; then it gets all the rest."""
    plan = describe(names.REQUEST_QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, (1.0, 2.0))
    held: list[RabbitDelivery] = []
    total = most = 0

    def take(delivery: RabbitDelivery) -> None:
        nonlocal total, most
        held.append(delivery)
        total, most = total + 1, max(most, len(held))

    consumer = Consumer(
        names.REQUEST_QUEUE,
        plan,
        take,
        prefetch=8,
        freeze_detector=FreezeDetector(time.monotonic),
        locks=BrokerLocks("l"),
    )
    async with RunningSystem(vhost, tmp_path) as system, connected(Brokers((vhost,)), 0, "test") as connection:
        session = asyncio.create_task(consumer.session(connection, lambda: None))
        await until(lambda: consumer.is_consuming, 10)
        await publish(system, [f"r{number}" for number in range(100)])
        await until(lambda: len(held) == 8, 10)
        for prefetch in (8, 2, 8, 3, 8):
            consumer.pause("a test")
            await until(lambda: not consumer.is_consuming, 10)
            consumer.set_prefetch(prefetch)
            consumer.resume("a test")
            await until(lambda: consumer.is_consuming, 10)
            for _ in range(3):
                await consumer.flush()  # all that the broker delivers at once has arrived by now
                await held.pop(0).ack()
        while total < 100:
            await until(lambda: bool(held), 10)
            await held.pop(0).ack()
        assert most == 8
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)


async def test_deleted_queues_are_reported_and_declared_again(vhost: str) -> None:
    """Those that no copy goes to as well: a retry queue, and the parked queue."""
    plan = describe(names.REQUEST_QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, (1.0, 2.0))
    deleted = sorted([names.parked_queue(names.REQUEST_QUEUE), names.retry_queue(names.REQUEST_QUEUE, 2.0)])
    reported: list[Collection[str]] = []
    counts = QueueCounts(plan, reported.append, interval=0.02)
    empty = {"requests": 0, "retry": 0, "parked": 0}

    async def session(connection: AbstractConnection, up: Callable[[], None]) -> str:
        await declare(connection, plan)
        up()
        await until(lambda: counts.messages == empty, 10)
        async with connection.channel() as channel:
            for queue in deleted:
                await channel.queue_delete(queue)
        await until(lambda: bool(reported), 10)
        await until(lambda: counts.messages == empty and not counts.missing, 10)
        return "ended"

    async with connected(Brokers((vhost,)), 0, "test") as connection:
        await counts.during(session)(connection, lambda: None)
    assert {queue for queues in reported for queue in queues} == set(deleted)
