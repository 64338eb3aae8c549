"""One description of every exchange, queue and binding; declared, printed and checked from here.

Arguments are few and the same for RabbitMQ 3.10 to 4.x (https://www.rabbitmq.com/docs/quorum-queues).
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from schemas import names
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel

BROKER_DELIVERY_LIMIT: Final = 50
"""Second net behind the worker's own limit (at most 40): the broker parks too, but without an event."""


MAX_WATCH_DELIVERIES: Final = 1_000_000
"""Never reached: without a limit, RabbitMQ 4.0 and newer drop a watch that was returned more than 20 times."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    kind: ClassVar = "exchange"
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue."""

    kind: ClassVar = "queue"
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
    retry_queues: tuple[str, ...] = ()
    """Names by retry level; equal delays share a queue."""
    follow_up_queues: tuple[str, ...] = ()
    """Names of the queues of watches, that of all due ones first; none without follow-up."""

    @property
    def items(self) -> tuple[Exchange | Queue, ...]:
        """What is declared, without the bindings; exchanges first."""
        return (*self.exchanges, *self.queues)

    @property
    def requests_queue(self) -> str:
        """The queue that requests are consumed from."""
        return self.bindings[0].queue


class TopologyError(Exception):
    """What exists on the broker differs from the description; one readable line per difference."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__("\n".join(differences))
        self.differences = differences


def describe(
    queue: str, request_exchange: str, event_exchange: str, delays: tuple[float, ...], *, with_follow_up: bool = False
) -> Topology:
    """The topology of the requests queue `queue` with a retry queue per delay (seconds)."""
    retry = {
        names.retry_queue(queue, delay): {"x-message-ttl": round(delay * 1000), **_dead_letters_to(queue)}
        for delay in delays
    }
    parked = names.parked_queue(queue)
    requests = Queue(queue, {"x-delivery-limit": BROKER_DELIVERY_LIMIT, **_dead_letters_to(parked)})
    follow_up = follow_up_queues(queue) if with_follow_up else ()
    return Topology(
        exchanges=(Exchange(request_exchange, "direct"), Exchange(event_exchange, "topic")),
        queues=(Queue(parked), requests, *(Queue(name, arguments) for name, arguments in retry.items()), *follow_up),
        bindings=(Binding(request_exchange, queue, names.REQUEST_KEY),),
        retry_queues=tuple(names.retry_queue(queue, delay) for delay in delays),
        follow_up_queues=tuple(watches.name for watches in follow_up),
    )


def follow_up_queues(queue: str) -> tuple[Queue, ...]:
    """The queues of watches: that of all due ones, and one for each delay before a look."""
    due = names.follow_up_queue(queue)
    waiting = {
        names.follow_up_queue(queue, checks): {"x-message-ttl": delay * 1000, **_dead_letters_to(due)}
        for checks, delay in enumerate(names.FOLLOW_UP_DELAYS)
    }
    never = {"x-delivery-limit": MAX_WATCH_DELIVERIES}
    return (Queue(due, never), *(Queue(name, arguments) for name, arguments in waiting.items()))


def _dead_letters_to(queue: str) -> dict[str, Any]:
    # At-least-once dead-lettering needs reject-publish; without a length limit nothing is ever rejected by it.
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def declare(connection: AbstractConnection, topology: Topology) -> list[str]:
    """Declare what is missing; what this user may not declare. Raises TopologyError naming every difference.

    A user without the right to configure may still use an existing topology.
    """
    refused = await declare_queues(connection, topology)
    return refused + await bind_queues(connection, topology, timeout=RPC_TIMEOUT_SECONDS)


async def declare_queues(connection: AbstractConnection, topology: Topology) -> list[str]:
    """Declare queues and exchanges that are missing; see `declare`."""
    differences: list[str] = []
    refused: list[str] = []
    for item in topology.items:
        differences += await _declare(connection, item, refused)
    if differences:
        raise TopologyError(differences)
    return refused


async def bind_queues(connection: AbstractConnection, topology: Topology, *, timeout: float | None) -> list[str]:
    """Declare the bindings; see `declare`.

    Also an existing one waits for a frozen node, until its cluster takes it for dead.
    """
    refused: list[str] = []
    for binding in topology.bindings:
        try:
            async with open_channel(connection) as channel:
                await channel.queue_bind(binding.queue, binding.exchange, binding.key, timeout=timeout)
        except ChannelAccessRefused:  # AMQP cannot tell whether it exists, and senders may use the queue itself
            refused.append(f"binding {binding.exchange!r} to {binding.queue!r}")
    return refused


async def _declare(connection: AbstractConnection, item: Exchange | Queue, refused: list[str]) -> list[str]:
    """Differences found. A refused declaration closes its channel, so each has one to itself."""
    what = f"{item.kind} {item.name!r}"
    try:
        async with open_channel(connection) as channel:
            await declare_on(channel, item)
    except ChannelPreconditionFailed as error:
        return [f"{what}: {difference(str(error))}"]
    except ChannelAccessRefused:
        refused.append(what)
        try:
            # RabbitMQ 4.3 hides from a user without any right on it even whether it exists.
            with suppress(ChannelAccessRefused):
                async with open_channel(connection) as channel:
                    await declare_on(channel, item, passive=True)
        except ChannelNotFoundEntity:
            return [f"{what}: is missing, and this user may not declare it; `dcs-worker topology apply` as one who may"]
    return []


async def declare_on(channel: Channel, item: Exchange | Queue, *, passive: bool = False) -> object:
    """Declare it, or, if passive, only ask whether it exists (the arguments do not count then); the answer."""
    how: dict[str, Any] = {"passive": passive, "durable": True, "timeout": RPC_TIMEOUT_SECONDS}
    if isinstance(item, Exchange):
        return await channel.exchange_declare(item.name, exchange_type=item.type, **how)
    return await channel.queue_declare(item.name, arguments=item.all_arguments, **how)


async def remove(connection: AbstractConnection, topology: Topology) -> None:
    """Delete every queue and exchange of `topology`, with all messages; one that does not exist is skipped."""
    async with open_channel(connection) as channel:
        for queue in topology.queues:
            await channel.queue_delete(queue.name, timeout=RPC_TIMEOUT_SECONDS)
        for exchange in topology.exchanges:
            await channel.exchange_delete(exchange.name, timeout=RPC_TIMEOUT_SECONDS)


_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for (?P<kind>\w*).*?: "
    r"received (?P<expected>.+?) but current is (?P<current>.+)$"
)


def difference(reply_text: str) -> str:
    """The broker's PRECONDITION_FAILED as a readable difference."""
    match = _INEQUIVALENT.search(reply_text)
    if match is None:
        return reply_text
    current, expected = _plain(match["current"]), _plain(match["expected"])
    when = "while nothing uses it" if match["kind"] == Exchange.kind else "once it is empty"
    return f"{match['name']} is {current}, but should be {expected}; delete it {when}, or change the setting"


def _plain(value: str) -> str:
    value = value.strip()
    if value == "none":
        return "not set"
    return re.sub(r"^the value '(.*)' of type '\w+'$", r"\1", value).strip("'") or "'' (empty)"
