"""For senders: a request becomes a message body, an event becomes a value.

Pydantic is all it needs, so publishing is left to the AMQP library that the sender has anyway. With aio-pika:

```python
import asyncio
import time

import aio_pika

from schemas import names
from schemas.client import Event, encode, read_event
from schemas.request import Request, Task  # Request(request_id=..., project_id=..., task=Task(name=..., ...))


async def create(amqp_url: str, request: Request, patience: float = 3600) -> Event:
    async with await aio_pika.connect(amqp_url) as connection, asyncio.timeout(patience):
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(names.REQUEST_EXCHANGE)
        answers = await channel.get_queue(names.DIRECT_REPLY_TO, ensure=False)
        message = aio_pika.Message(
            encode(request),
            content_type=names.JSON,
            delivery_mode=2,
            timestamp=time.time(),
            reply_to=answers.name,
        )
        async with answers.iterator(no_ack=True) as events:
            await exchange.publish(message, names.REQUEST_KEY)
            async for event in events:
                return read_event(event.body)
    raise ConnectionError("the connection was lost before the answer came: send the request again")
```

A sender that lost the connection before the event came calls it again with the same request: nothing is created
twice, and the same event is the answer.
"""

from typing import Final

from pydantic import TypeAdapter

from . import identity
from .event import MigrationFailed, MigrationProvisioned, MigrationProvisioningFailed, MigrationSucceeded
from .request import Request

Event = MigrationSucceeded | MigrationFailed
"""How a request ended: a success has the `instance_id` of its task, a failure the `reason` for it."""

ProvisioningEvent = MigrationProvisioningFailed | MigrationProvisioned
"""Whether the created task became ready; only with `WORKER_FOLLOW_UP=true`."""

_EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Event)
_PROVISIONING_EVENT: Final[TypeAdapter[ProvisioningEvent]] = TypeAdapter(ProvisioningEvent)


def encode(request: Request) -> bytes:
    """The message body of `request`."""
    return request.model_dump_json(exclude_none=True).encode()


def identified(request: Request, default_region: str) -> Request:
    """`request` with the request id of its event: the sender's, else the one derived from its content.

    The id is that of the region, which the request then names: another region of the worker would be another id.
    """
    if request.request_id is not None:
        return request
    region = request.region or default_region
    derived = identity.request_id(request.project_id, region, request.task)
    return request.model_copy(update={"request_id": derived, "region": region})


def read_event(body: bytes) -> Event:
    """The event in a message body. Raises ValueError if it is none."""
    return _EVENT.validate_json(body)


def read_provisioning_event(body: bytes) -> ProvisioningEvent:
    """The event of a follow-up in a message body. Raises ValueError if it is none."""
    return _PROVISIONING_EVENT.validate_json(body)
