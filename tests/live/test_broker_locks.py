"""Locks of repeats on a real broker: exact under refusals, and nothing of them stays."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aio_pika.abc import AbstractConnection

from worker.rabbit.connection import Brokers, connected, open_channel
from worker.rabbit.delivery import AckWriter
from worker.rabbit.locks import BrokerLocks

QUEUE = "locks.requests"
CYCLES, AT_ONCE = 500, 50
GROWTH_PER_CYCLE = 200
"""Bytes; a channel that is kept takes 4,500. Python itself keeps some 85 kB."""


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[tuple[BrokerLocks, AbstractConnection]]:
    """The locks of one replica, and its connection."""
    locks = BrokerLocks(QUEUE)
    async with connected(Brokers((url,)), 0, "test") as connection:
        with locks.session(connection):
            yield locks, connection


def channels(connection: AbstractConnection) -> int:
    """Open channels of a connection."""
    assert connection.transport is not None
    return len(connection.transport.connection.channels)


def kept() -> int:
    """Bytes that are in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def cycle(first: BrokerLocks, second: BrokerLocks, number: int) -> None:
    """A lock is taken, refused, given back, and taken by the other."""
    key = ("project", str(number))
    assert await first.take(key)
    assert not await second.take(key)
    await first.free(key)
    assert await second.take(key)
    await second.free(key)


async def cycles(first: BrokerLocks, second: BrokerLocks, count: int) -> None:
    """So many cycles one after the other, and as many at once."""
    for number in range(count):
        await cycle(first, second, number)
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(cycle(first, second, number) for number in range(start, start + AT_ONCE)))


@pytest.mark.timeout(180)
async def test_locks_and_refusals_leak_nothing(vhost: str) -> None:
    """Memory, tasks and channels after 1,000 cycles are those after the first few."""
    async with replica(vhost) as (first, _), replica(vhost) as (second, connection):
        tracemalloc.start()
        try:
            await cycles(first, second, AT_ONCE)
            before, tasks = kept(), len(asyncio.all_tasks())
            await cycles(first, second, CYCLES)
            grown = kept() - before
        finally:
            tracemalloc.stop()
        assert grown < GROWTH_PER_CYCLE * 2 * CYCLES
        assert len(asyncio.all_tasks()) == tasks
        assert channels(connection) <= 1


async def test_refusal_leaves_other_locks(vhost: str) -> None:
    """With all locks requested at once and half of them held elsewhere, each request gets its answer."""
    keys = [("project", str(number)) for number in range(100)]
    async with replica(vhost) as (first, _), replica(vhost) as (second, _):
        assert all(await asyncio.gather(*(first.take(key) for key in keys[::2])))
        taken = await asyncio.gather(*(second.take(key) for key in keys))
        assert taken == [False, True] * 50


async def test_locks_end_with_connection_and_closed_connection_grants_none(vhost: str) -> None:
    """The other replica gets them then; on a closed connection the state is unknown, so no lock is free."""
    key = ("project", "id")
    async with replica(vhost) as (second, _):
        async with replica(vhost) as (first, connection):
            assert await first.take(key)
            await connection.close()
            assert not await first.take(key)
        async with asyncio.timeout(10):
            while not await second.take(key):
                await asyncio.sleep(0.05)


@pytest.mark.timeout(120)
async def test_refusals_amid_bursts_of_acks_keep_connection(vhost: str) -> None:
    """aiormq drops its answer to a closed channel when its queue of frames is full; the broker would hang up."""
    count, burst = 6000, 24
    key = ("project", "id")
    async with replica(vhost) as (first, _), replica(vhost) as (second, connection):
        assert await first.take(key)
        async with open_channel(connection, confirms=True) as channel:
            await channel.queue_declare(QUEUE, exclusive=True)
            held: asyncio.Queue[int] = asyncio.Queue()
            acks = AckWriter(channel)

            async def take(message: object) -> None:
                held.put_nowait(message.delivery_tag)  # type: ignore[attr-defined]

            await channel.basic_consume(QUEUE, take)
            for _ in range(0, count, 500):
                publishes = (channel.basic_publish(b"", routing_key=QUEUE, wait=False) for _ in range(500))
                await asyncio.gather(*publishes)

            async def acknowledge() -> None:
                for _ in range(count // burst):
                    for _ in range(burst):
                        acks.ack(await held.get())
                    await asyncio.sleep(0.005)
                await acks.flush()

            async with acks.running():
                acknowledging = asyncio.create_task(acknowledge())
                refusals = 0
                while not acknowledging.done():
                    assert not await second.take(key)
                    refusals += 1
                await acknowledging
            assert refusals > 20
            assert not connection.is_closed
            await channel.queue_declare(QUEUE, passive=True, timeout=10)
