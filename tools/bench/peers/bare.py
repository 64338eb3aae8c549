"""The bare loop in Python: what one writes in an afternoon. Whatever goes wrong is lost or repeated."""

import asyncio
import json

import aio_pika
import aiohttp
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from tools.bench.load import AMQP_URL, HEADERS, IN_FLIGHT, REQUESTS, event, service_url


async def main() -> None:
    """Consume until killed."""
    connection = await aio_pika.connect(AMQP_URL)
    async with connection, aiohttp.ClientSession(headers=HEADERS) as session:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=IN_FLIGHT)
        queue = await channel.get_queue(REQUESTS)
        events = await channel.get_exchange("dcs.migration.events")

        async def create(message: AbstractIncomingMessage) -> None:
            request = json.loads(message.body)
            async with session.post(service_url(request["project_id"]), json=request["task"]) as answer:
                answer.raise_for_status()
                created = await answer.json()
            told = aio_pika.Message(
                json.dumps(event(request, created)).encode(),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await events.publish(told, routing_key="migration.succeeded")
            await message.ack()

        await queue.consume(create)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
