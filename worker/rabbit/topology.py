"""One description of every exchange, queue and binding; declared, printed and checked from here.

Arguments are few and the same for RabbitMQ 3.10 to 4.x (https://www.rabbitmq.com/docs/quorum-queues).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from schemas import names
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel

DELIVERY_LIMIT: Final = 50
"""The broker's own net, below the worker's limit (at most 40): it parks, but without an event."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_arguments(self) -> dict[str, Any]:
        """The arguments that it is declared with."""
        return {"x-queue-type": "quorum", **self.arguments}


@dataclass(frozen=True, slots=True)
class Binding:
    """From exchange to queue."""

    exchange: str
    queue: str
    key: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything that the worker needs on the broker."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


class TopologyError(Exception):
    """What exists on the broker differs from the description; one readable line per difference."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__("\n".join(differences))
        self.differences = differences


def describe(queue: str, request_exchange: str, event_exchange: str, delays: tuple[float, ...]) -> Topology:
    """The topology of the requests queue `queue` with a retry queue per delay (seconds)."""
    retry = tuple(
        Queue(names.retry_queue(queue, place), {"x-message-ttl": round(delay * 1000), **_dead_letters_to(queue)})
        for place, delay in enumerate(delays, 1)
    )
    parked = names.parked_queue(queue)
    requests = Queue(queue, {"x-delivery-limit": DELIVERY_LIMIT, **_dead_letters_to(parked)})
    return Topology(
        exchanges=(Exchange(request_exchange, "direct"), Exchange(event_exchange, "topic")),
        queues=(Queue(parked), requests, *retry),
        bindings=(Binding(request_exchange, queue, names.REQUEST_KEY),),
    )


def _dead_letters_to(queue: str) -> dict[str, Any]:
    # At-least-once dead-lettering needs reject-publish; without a length limit nothing is ever rejected by it.
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Declare what is missing. Raises TopologyError naming every difference to what exists.

    A user without the right to configure may still use a topology that is there.
    """
    differences: list[str] = []
    for exchange in topology.exchanges:
        arguments = {"exchange_type": exchange.type, "durable": True}
        what = f"exchange {exchange.name!r}"
        differences += await _declared(connection, what, "exchange_declare", exchange.name, arguments)
    for queue in topology.queues:
        arguments = {"durable": True, "arguments": queue.all_arguments}
        differences += await _declared(connection, f"queue {queue.name!r}", "queue_declare", queue.name, arguments)
    if differences:
        raise TopologyError(differences)
    for binding in topology.bindings:
        await _bind(connection, binding)


async def _declared(
    connection: AbstractConnection, what: str, method: str, name: str, arguments: dict[str, Any]
) -> list[str]:
    """Differences found. A refused declaration closes its channel, so each has one of its own."""
    try:
        async with open_channel(connection) as channel:
            await getattr(channel, method)(name, **arguments, timeout=RPC_TIMEOUT_SECONDS)
    except ChannelPreconditionFailed as error:
        return [f"{what}: {difference(str(error))}"]
    except ChannelAccessRefused:
        return await _seen(connection, what, method, name)
    return []


async def _seen(connection: AbstractConnection, what: str, method: str, name: str) -> list[str]:
    try:
        async with open_channel(connection) as channel:
            await getattr(channel, method)(name, passive=True, timeout=RPC_TIMEOUT_SECONDS)
    except ChannelAccessRefused:
        return []  # RabbitMQ 4.3 hides from a user without any right on it even whether it is there
    except ChannelNotFoundEntity:
        return [f"{what}: is missing, and this user may not declare it; `dcs-worker topology apply` as one who may"]
    return []


async def _bind(connection: AbstractConnection, binding: Binding) -> None:
    try:
        async with open_channel(connection) as channel:
            await channel.queue_bind(binding.queue, binding.exchange, binding.key, timeout=RPC_TIMEOUT_SECONDS)
    except ChannelAccessRefused:
        return  # it cannot be seen over AMQP whether the binding is there; senders may use the queue itself


_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for .*?: received (?P<wanted>.+?) but current is (?P<present>.+)$"
)


def difference(reply_text: str) -> str:
    """The broker's PRECONDITION_FAILED as a readable difference."""
    match = _INEQUIVALENT.search(reply_text)
    if match is None:
        return reply_text
    present, wanted = (_plain(match[part]) for part in ("present", "wanted"))
    return f"{match['name']} is {present}, but should be {wanted}; delete it once it is empty, or change the setting"


def _plain(value: str) -> str:
    value = value.strip()
    if value == "none":
        return "not set"
    return re.sub(r"^the value '(.*)' of type '\w+'$", r"\1", value).strip("'") or "empty"
