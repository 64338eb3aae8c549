"""The broker's side of a measurement: queues made anew, filled, counted and read."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from schemas import names
from tests.fakes.servers import RabbitMqServer
from tools.bench import load
from worker.rabbit.connection import Brokers, connected, open_channel
from worker.rabbit.topology import Topology, declare, describe

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
DELAYS = (10.0, 60.0, 300.0, 1800.0)
POLL = 0.02
CHUNK = 500
PERSISTENT = Basic.Properties(content_type=names.JSON, delivery_mode=2)


def make_vhosts(node: RabbitMqServer, wanted: dict[str, bool], folder: Path) -> None:
    """A virtual host per name; True: queues of unsaid type become quorum queues there."""
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    kinds = {name: {"default_queue_type": "quorum"} if is_quorum else {} for name, is_quorum in wanted.items()}
    definitions = {
        "vhosts": [{"name": name, "metadata": kind} | kind for name, kind in kinds.items()],
        "permissions": [{"user": "guest", "vhost": name, **everything} for name in wanted],
    }
    path = folder / "vhosts.json"
    path.write_text(json.dumps(definitions))
    node.run_ctl("import_definitions", str(path))


class Queues:
    """The queues of one virtual host."""

    def __init__(self, connection: AbstractConnection, channel: Channel) -> None:
        self._connection = connection
        self._channel = channel
        self._numbers = count()

    async def renew(self, *, is_worker: bool, has_sender: bool) -> None:
        """Delete what an earlier measurement left, and declare what the competitor does not declare itself."""
        for queue in (load.REQUESTS, load.EVENTS):
            await self._channel.queue_delete(queue)
        if is_worker:
            await declare(self._connection, _topology())
        elif not has_sender:
            await self._channel.exchange_declare(names.EVENT_EXCHANGE, exchange_type="topic", durable=True)
            await self._channel.queue_declare(load.REQUESTS, durable=True, arguments=QUORUM)
        if not has_sender:
            await self._channel.queue_declare(load.EVENTS, durable=True, arguments=QUORUM)
            await self._channel.queue_bind(load.EVENTS, names.EVENT_EXCHANGE, "#")

    async def fill(self, number: int, size: int = 0) -> None:
        """Publish so many requests, each of at least `size` bytes: JSON may be followed by any amount of spaces."""
        for start in range(0, number, CHUNK):
            await asyncio.gather(*(self.publish(size) for _ in range(min(CHUNK, number - start))))

    async def publish(self, size: int = 0) -> None:
        """Publish one request; the broker confirms nothing, its count does."""
        body = json.dumps(load.request(next(self._numbers))).encode().ljust(size)
        await self._channel.basic_publish(body, routing_key=load.REQUESTS, properties=PERSISTENT, wait=False)

    async def depth(self, queue: str) -> int:
        """Messages ready in the queue."""
        return (await self._channel.queue_declare(queue, passive=True)).message_count or 0

    async def arrived(self, number: int, seconds: float = 120) -> int:
        """Wait, not longer than so many seconds, until the requests queue holds so many; how many it does hold."""
        end = time.monotonic() + seconds
        while (found := await self.depth(load.REQUESTS)) < number and time.monotonic() < end:
            await asyncio.sleep(POLL)
        return found

    async def purge(self) -> None:
        """Take every request away, then, once nothing more arrives, every event."""
        await self._channel.queue_purge(load.REQUESTS)
        before = -1
        while (found := await self.depth(load.EVENTS)) != before:
            before = found
            await asyncio.sleep(0.5)
        await self._channel.queue_purge(load.EVENTS)

    @asynccontextmanager
    async def read(self, arrived: Callable[[bytes], None]) -> AsyncIterator[None]:
        """Consume the events for as long as the context lasts."""

        async def take(message: DeliveredMessage) -> None:
            arrived(message.body)
            await message.channel.basic_ack(message.delivery_tag or 0, wait=False)

        answer = await self._channel.basic_consume(load.EVENTS, take)
        try:
            yield
        finally:
            await self._channel.basic_cancel(answer.consumer_tag or "")


def _topology() -> Topology:
    return describe(load.REQUESTS, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, DELAYS)


@asynccontextmanager
async def open_queues(url: str) -> AsyncIterator[Queues]:
    """The queues of the virtual host that `url` names."""
    async with connected(Brokers((url,)), 0, "bench") as connection, open_channel(connection) as channel:
        yield Queues(connection, channel)
