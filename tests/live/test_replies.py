"""Replies on a real broker: an address that makes it close a connection harms no other request, and no consumer."""

import asyncio
import json
from pathlib import Path

import aio_pika
import pytest

from schemas import names
from tools.harness.running_system import RunningSystem, request, until

DAMAGED = (
    "amq.rabbitmq.reply-to.abcd.efgh",
    "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA0NTY3ODkwMQAAC2YAAAAAY2JhZA==.Ys1iZWVtYm9sZA==",
    "AMQ.RABBITMQ.REPLY-TO.abcd.efgh",
    "amq.rabbitmq.reply-to.",
    "no such queue",
)
"""Direct reply-to addresses of no connection of this broker, and a queue that does not exist."""


@pytest.mark.timeout(150)
async def test_damaged_addresses_cost_their_own_answer_only(vhost: str, tmp_path: Path) -> None:
    """Between ordinary requests: one event each, every other answer arrives, and no other connection is lost."""
    async with RunningSystem(vhost, tmp_path) as system, await system._connection.channel() as channel:
        answers = await channel.declare_queue("answers", exclusive=True)
        worker = system.worker()
        await worker.ready()
        harmful = {f"harmful-{number}": address for number, address in enumerate(DAMAGED * 3)}
        for name, address in harmful.items():
            await system.publish(request(name, request_id=name), reply_to=address)
            for side in ("left", "right"):
                neighbour = f"{side}-of-{name}"
                await system.publish(request(neighbour, request_id=neighbour), reply_to="answers")
        count = 3 * len(harmful)
        events = await system.answered(count, 60)
        await until(lambda: worker.metric("dcs_worker_in_flight_requests") == 0, 30, worker.explain)
        assert {len(of_one) for of_one in events.values()} == {1}
        system.assert_one_task_each(list(events))
        answered: set[str] = set()  # one whose confirm was lost comes twice
        while (answer := await answers.get(fail=False)) is not None:
            answered.add(json.loads(answer.body)["request_id"])
        assert answered == set(events) - set(harmful)
        assert not [line for line in worker.log() if line["event"] == "broker.disconnected"], worker.explain()
        assert worker.metric("dcs_worker_requests_received_total", 'redelivered="true"') == 0
        assert await system.depth(names.REQUEST_QUEUE) == 0


async def test_direct_reply_to_is_answered(vhost: str, tmp_path: Path) -> None:
    """A client on `amq.rabbitmq.reply-to` gets its answer, though no queue of that name exists."""
    async with RunningSystem(vhost, tmp_path) as system, await system._connection.channel() as channel:
        worker = system.worker()
        await worker.ready()
        answers: asyncio.Queue[bytes] = asyncio.Queue()

        async def on_answer(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            answers.put_nowait(message.body)

        direct = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await direct.consume(on_answer, no_ack=True)
        body = json.dumps(request("asked", request_id="asked")).encode()
        message = aio_pika.Message(body, content_type=names.JSON, reply_to="amq.rabbitmq.reply-to")
        await channel.default_exchange.publish(message, names.REQUEST_QUEUE)
        async with asyncio.timeout(20):
            assert json.loads(await answers.get())["request_id"] == "asked"
