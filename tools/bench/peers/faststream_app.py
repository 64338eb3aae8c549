# mypy: disable-error-code="import-not-found,untyped-decorator"
"""FastStream with httpx: https://faststream.ag2.ai/latest/rabbit/ (started by `faststream run`)."""

from typing import Any

import httpx
from faststream import FastStream
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue

from tools.bench.load import AMQP_URL, HEADERS, IN_FLIGHT, REQUESTS, event, service_url

broker = RabbitBroker(AMQP_URL, logger=None)  # it would log two lines a request
app = FastStream(broker)
requests = RabbitQueue(REQUESTS, durable=True, queue_type=QueueType.QUORUM)
events = RabbitExchange("dcs.migration.events", type=ExchangeType.TOPIC, durable=True)
client = httpx.AsyncClient(headers=HEADERS, limits=httpx.Limits(max_keepalive_connections=IN_FLIGHT))


@broker.subscriber(requests, channel=Channel(prefetch_count=IN_FLIGHT))
@broker.publisher(exchange=events, routing_key="migration.succeeded", persist=True)
async def create(request: dict[str, Any]) -> dict[str, Any]:
    """Create the task of a request; what is returned is published."""
    answer = await client.post(service_url(request["project_id"]), json=request["task"])
    answer.raise_for_status()
    return event(request, answer.json())
