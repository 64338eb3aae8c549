"""A topology that was made for a moment goes again, with everything that is in its queues."""

from aio_pika.abc import AbstractConnection

from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel
from worker.rabbit.topology import Topology


async def remove(connection: AbstractConnection, topology: Topology) -> None:
    """Delete every queue and exchange of `topology`; one that is not there is none to delete."""
    async with open_channel(connection) as channel:
        for queue in topology.queues:
            await channel.queue_delete(queue.name, timeout=RPC_TIMEOUT_SECONDS)
        for exchange in topology.exchanges:
            await channel.exchange_delete(exchange.name, timeout=RPC_TIMEOUT_SECONDS)
