"""Connection on demand: one message per channel, and what follows from a channel or connection that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.exceptions import ChannelPreconditionFailed, ConnectionInternalError, DeliveryError
from pamqp.commands import Basic

from worker.policy.call_result import UnconfirmedError
from worker.rabbit import on_demand
from worker.rabbit.connection import Brokers
from worker.rabbit.on_demand import ClosedError, OnDemandConnection

NODES = ("amqp://a", "amqp://b")


@dataclass(eq=False)
class Node:
    """A connection of aiormq, as far as it is used here: the queue `frozen` never confirms."""

    attempt: int
    is_frozen: bool = False
    is_closed: bool = False
    channels: list["Channel"] = field(default_factory=list)
    opened: list["Channel"] = field(default_factory=list)

    async def channel(self, *, publisher_confirms: bool, on_return_raises: bool) -> "Channel":
        """Another channel."""
        assert publisher_confirms
        assert on_return_raises
        if self.is_frozen:
            await asyncio.Event().wait()
        self.opened.append(Channel(self))
        self.channels.append(self.opened[-1])
        return self.opened[-1]


@dataclass(eq=False)
class Channel:
    """A channel of it, with the routing keys that were published on it."""

    connection: Node
    is_closed: bool = False
    keys: list[str] = field(default_factory=list)

    async def basic_publish(self, body: bytes, *, routing_key: str, **_: Any) -> None:
        """Confirm, refuse, close, or nothing of it, by the routing key."""
        self.keys.append(routing_key)
        await asyncio.sleep(0)
        if routing_key == "full":
            raise DeliveryError(None, Basic.Nack())
        if routing_key == "harmful":
            raise ConnectionInternalError("INTERNAL_ERROR")
        if routing_key == "large":
            raise ChannelPreconditionFailed("PRECONDITION_FAILED - message size")
        if routing_key == "frozen" or self.connection.is_frozen:
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Close it."""
        self.is_closed = True
        self.connection.channels.remove(self)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """The connections that were opened."""
    found: list[Node] = []

    @asynccontextmanager
    async def connected(_: Brokers, attempt: int, __: str) -> AsyncIterator[Any]:
        found.append(Node(attempt))
        yield SimpleNamespace(transport=SimpleNamespace(connection=found[-1]))
        found[-1].is_closed = True

    monkeypatch.setattr(on_demand, "connected", connected)
    monkeypatch.setattr(on_demand, "OPEN_TIMEOUT_SECONDS", 0.05)
    return found


@pytest.fixture
def connection(nodes: list[Node]) -> OnDemandConnection:
    """The connection under test."""
    assert nodes == []
    return OnDemandConnection(lambda: Brokers(NODES), "test")


async def publish(connection: OnDemandConnection, key: str, seconds: float = 0.01) -> None:
    """Publish one message."""
    await connection.publish(b"", Basic.Properties(), key, seconds, mandatory=False)


async def test_channel_carries_one_message_at_a_time(connection: OnDemandConnection, nodes: list[Node]) -> None:
    """One that does not confirm holds up no other, and its channel is never used again."""
    for _ in range(3):
        await publish(connection, "answers")
    async with asyncio.timeout(5):
        frozen = asyncio.create_task(publish(connection, "frozen", 0.1))
        await asyncio.sleep(0)
        await publish(connection, "answers")
        with pytest.raises(TimeoutError):
            await frozen
        await asyncio.gather(*(publish(connection, "answers") for _ in range(3)))
    [node] = nodes
    assert node.opened[0].keys == ["answers"] * 3 + ["frozen"]
    assert all("frozen" not in channel.keys for channel in node.opened[1:])
    assert connection.channels == len(node.opened)


async def test_refused_message_closes_its_channel(connection: OnDemandConnection, nodes: list[Node]) -> None:
    """RabbitMQ 3.10 goes on refusing on it what the queue takes by then."""
    with pytest.raises(DeliveryError):
        await publish(connection, "full")
    await publish(connection, "answers")
    [node] = nodes
    assert [(channel.keys, channel.is_closed) for channel in node.opened] == [(["full"], True), (["answers"], False)]
    assert connection.channels == 1


async def test_message_that_closes_its_channel_leaves_the_connection(
    connection: OnDemandConnection, nodes: list[Node]
) -> None:
    """Other messages may be under way on it."""
    with pytest.raises(ClosedError, match="PRECONDITION_FAILED"):
        await publish(connection, "large")
    await publish(connection, "answers")
    assert len(nodes) == 1


async def test_message_that_closes_its_connection_leads_to_the_next_node(
    connection: OnDemandConnection, nodes: list[Node]
) -> None:
    """Also while aiormq does not know yet that it is closed; the library's error is the cause."""
    with pytest.raises(ClosedError) as caught:
        await publish(connection, "harmful")
    assert isinstance(caught.value.__cause__, ConnectionInternalError)
    await publish(connection, "answers")
    assert [node.is_closed for node in nodes] == [True, False]
    assert {node.attempt % 2 for node in nodes} == {0, 1}


async def test_frozen_node_is_told_from_frozen_queue(connection: OnDemandConnection, nodes: list[Node]) -> None:
    """The one is unconfirmed, whatever the queue, and left for the next node."""
    await publish(connection, "answers")
    nodes[0].is_frozen = True
    for _ in range(2):
        with pytest.raises(UnconfirmedError):
            await publish(connection, "answers")
        await publish(connection, "answers")
        nodes[-1].is_frozen = True
    assert [node.is_closed for node in nodes] == [True, True, False]
