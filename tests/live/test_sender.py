"""The senders' side against a real broker: requests confirmed, events followed, errors in sentences."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Basic

from schemas import names
from tests.fakes.servers import RabbitMqServer
from worker.rabbit.connection import Brokers, open_channel
from worker.rabbit.tools.broker_access import BrokerError, open_connection
from worker.rabbit.tools.event_stream import open_event_stream
from worker.rabbit.tools.sender import MAX_UNCONFIRMED_REQUESTS, Sender, open_sender
from worker.rabbit.topology import declare, describe, remove
from worker.tools.servers import free_port

PLAN = describe(names.REQUEST_QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, (1.0, 2.0))
BODY = b'{"project_id": "p"}'


@pytest.fixture
async def connection(vhost: str) -> AsyncIterator[AbstractConnection]:
    """A connection to a vhost of this test's own, with the worker's topology in it."""
    async with open_connection(Brokers((vhost,)), "test") as connection:
        await declare(connection, PLAN)
        yield connection


async def _waiting(connection: AbstractConnection, queue: str) -> int:
    async with open_channel(connection) as channel:
        return (await channel.queue_declare(queue, passive=True)).message_count or 0


async def _endlessly(sender: Sender, then: Any = BODY) -> None:
    async with sender.batch() as batch:
        await batch.put(BODY)
        while True:
            await batch.put(len(then) * b"x")


async def test_five_thousand_requests_are_confirmed_with_few_in_flight(connection: AbstractConnection) -> None:
    """Every request of a batch is in the queue when the batch ends, and never more than the bound is unconfirmed."""
    confirmed: list[int] = []
    ahead = 0
    async with open_sender(connection, names.REQUEST_EXCHANGE) as sender, sender.batch(confirmed.append) as batch:
        for number in range(1, 5001):
            await batch.put(BODY, correlation_id=str(number))
            ahead = max(ahead, number - len(confirmed))

    assert confirmed == list(range(1, 5001))
    assert 1 < ahead <= MAX_UNCONFIRMED_REQUESTS
    assert await _waiting(connection, names.REQUEST_QUEUE) == 5000


async def test_sent_request_is_persistent_json_with_given_properties(connection: AbstractConnection) -> None:
    """Body, correlation id, reply address and headers arrive as given; the message outlives the broker."""
    started = datetime.now(UTC).replace(microsecond=0)
    async with open_sender(connection, names.REQUEST_EXCHANGE) as sender:
        await sender.send(BODY, correlation_id="mine", reply_to="answers")

    async with open_channel(connection) as channel:
        message = await channel.basic_get(names.REQUEST_QUEUE, no_ack=True)
    properties = message.header.properties
    assert (message.body, properties.correlation_id, properties.reply_to) == (BODY, "mine", "answers")
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert properties.timestamp is not None
    assert started <= properties.timestamp <= datetime.now(UTC)


async def test_unroutable_request_raises_send_error(connection: AbstractConnection) -> None:
    """An exchange without the request queue behind it is an error that says what to do."""
    async with open_sender(connection, names.EVENT_EXCHANGE) as sender:
        with pytest.raises(BrokerError, match=r"What is published to the exchange .* reaches no queue.*topology apply"):
            await sender.send(BODY)


async def test_missing_exchange_raises_send_error(connection: AbstractConnection) -> None:
    """The error names the exchange before anything is sent."""
    with pytest.raises(BrokerError, match=r"The exchange 'nowhere' does not exist.*topology apply"):
        async with open_sender(connection, "nowhere"):
            pass


async def test_batch_ends_with_first_error(connection: AbstractConnection) -> None:
    """A batch that no queue takes raises one plain error instead of going on."""
    async with open_sender(connection, names.EVENT_EXCHANGE) as sender:
        with pytest.raises(BrokerError, match="reaches no queue"):
            await _endlessly(sender)


async def test_error_of_caller_is_not_wrapped(connection: AbstractConnection) -> None:
    """An exception while a batch is filled is raised unchanged."""
    async with open_sender(connection, names.REQUEST_EXCHANGE) as sender:
        with pytest.raises(TypeError):
            await _endlessly(sender, then=None)


async def test_full_queue_rejects_request(connection: AbstractConnection) -> None:
    """A queue that rejects publishes raises an error instead of losing the request."""
    async with open_channel(connection) as channel:
        await channel.exchange_declare("full", exchange_type="direct")
        await channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await channel.queue_bind("full", "full", names.REQUEST_KEY)

    async with open_sender(connection, "full") as sender:
        with pytest.raises(BrokerError, match="takes none at the moment"):
            await _endlessly(sender)


async def test_followed_events_are_the_published_ones(connection: AbstractConnection) -> None:
    """Kind, body, headers and correlation id of every event arrive, in order."""
    async with open_event_stream(connection, names.EVENT_EXCHANGE) as events, open_channel(connection) as channel:
        for number, key in enumerate(("migration.succeeded", "migration.failed")):
            properties = Basic.Properties(headers={"n": number}, correlation_id=f"c{number}")
            await channel.basic_publish(
                b"%d" % number, exchange=names.EVENT_EXCHANGE, routing_key=key, properties=properties
            )
        async with asyncio.timeout(10):
            seen = [await anext(events) for _ in range(2)]

    assert [(event.kind, event.body, event.headers, event.correlation_id) for event in seen] == [
        ("migration.succeeded", b"0", {"n": 0}, "c0"),
        ("migration.failed", b"1", {"n": 1}, "c1"),
    ]


async def test_following_missing_exchange_raises_error(connection: AbstractConnection) -> None:
    """The error names the exchange and what to do."""
    with pytest.raises(BrokerError, match=r"'nowhere' does not exist.*topology apply"):
        async with open_event_stream(connection, "nowhere"):
            pass


async def test_lost_connection_is_reported_to_sender_and_follower(
    connection: AbstractConnection, rabbit: RabbitMqServer, vhost: str
) -> None:
    """When the broker closes the connection, sending and following raise instead of waiting."""
    name = vhost.rpartition("/")[2]
    async with AsyncExitStack() as stack:
        events = await stack.enter_async_context(open_event_stream(connection, names.EVENT_EXCHANGE))
        sender = await stack.enter_async_context(open_sender(connection, names.REQUEST_EXCHANGE))
        await sender.send(BODY)
        await rabbit.ctl("close_all_connections", "--vhost", name, "maintenance")

        async with asyncio.timeout(10):
            with pytest.raises(BrokerError, match="events since then were missed"):
                await anext(events)
            with pytest.raises(BrokerError, match="events since then were missed"):
                await anext(events)
            with pytest.raises(BrokerError, match="sending again is safe"):
                await sender.send(BODY)


async def test_removed_topology_leaves_no_queue_or_exchange(connection: AbstractConnection) -> None:
    """No queue and no exchange of it is left, and removing it twice is no error."""
    await remove(connection, PLAN)
    await remove(connection, PLAN)

    for method, named in (("queue_declare", PLAN.queues), ("exchange_declare", PLAN.exchanges)):
        for item in named:
            async with open_channel(connection) as channel:
                with pytest.raises(ChannelNotFoundEntity):
                    await getattr(channel, method)(item.name, passive=True)


async def test_first_node_that_accepts_login_is_used(vhost: str) -> None:
    """A node that is down is skipped."""
    unreachable = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    async with open_connection(Brokers((unreachable, vhost)), "test") as connection:
        assert not connection.is_closed


async def test_unreachable_nodes_are_named_without_password(rabbit: RabbitMqServer) -> None:
    """One sentence per node says where it is and why it cannot be used."""
    down, port = free_port(), rabbit.port
    urls = (
        f"amqp://guest:hunter2@127.0.0.1:{down}/",
        f"amqp://guest:hunter2@127.0.0.1:{port}/",
        f"amqp://guest:guest@127.0.0.1:{port}/nowhere",
        "amqp://guest:hunter2@name.invalid/",
    )
    with pytest.raises(BrokerError) as refused:
        async with open_connection(Brokers(urls), "test"):
            pass

    lines = str(refused.value).splitlines()
    assert lines[0] == f"Broker 127.0.0.1:{down}: it cannot be reached: Connection refused."
    assert lines[1] == f"Broker 127.0.0.1:{port}: login: the broker refuses the user 'guest' or its password: " + (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    )
    refusal = "the broker refuses the connection: NOT_ALLOWED - vhost nowhere not found"
    assert lines[2] == f"Broker 127.0.0.1:{port}: vhost: {refusal}."
    assert lines[3].startswith("Broker name.invalid:5672: it cannot be reached: ")
    assert lines[3].endswith("`dcs-worker doctor` finds out more.")
    assert "hunter2" not in str(refused.value)


async def test_login_cut_off_is_reported_in_one_sentence(vhost: str) -> None:
    """An unexpected answer of the broker, or none at all, does not surface as an error of the library."""

    async def ask(queue: str) -> None:
        async with open_connection(Brokers((vhost,)), "test") as connection:
            await _waiting(connection, queue)

    async def wait() -> None:
        async with open_connection(Brokers((vhost,)), "test"), asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(BrokerError, match="NOT_FOUND - no queue 'nowhere'"):
        await ask("nowhere")
    with pytest.raises(BrokerError, match="stopped answering"):
        await wait()
