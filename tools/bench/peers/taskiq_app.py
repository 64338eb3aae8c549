# mypy: disable-error-code="import-not-found,untyped-decorator"
"""Taskiq with taskiq-aio-pika and httpx: https://taskiq-python.github.io (started by `taskiq worker`)."""

import asyncio
import sys
from typing import Any

import httpx
from taskiq import TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue

from tools.bench import load

broker = AioPikaBroker(load.AMQP_URL, qos=load.IN_FLIGHT, task_queues=[Queue(name=load.REQUESTS)])
events = AioPikaBroker(load.AMQP_URL, task_queues=[Queue(name=load.EVENTS)])
client = httpx.AsyncClient(headers=load.HEADERS, limits=httpx.Limits(max_keepalive_connections=load.IN_FLIGHT))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(_: TaskiqState) -> None:
    """The broker of the events is a client of the worker's."""
    await events.startup()


@broker.task(task_name="create")
async def create(request: dict[str, Any]) -> None:
    """Create the task of a request; the next task's message is the event."""
    answer = await client.post(load.service_url(request["project_id"]), json=request["task"])
    answer.raise_for_status()
    await migrated.kiq(load.event(request, answer.json()))


@events.task(task_name="migrated")
async def migrated(event: dict[str, Any]) -> None:
    """Whoever waits for the event takes it from here."""


async def send(count: int, rate: float) -> None:
    """Send requests, one after the other if they are paced."""
    await broker.startup()
    await events.startup()
    at_once = 1 if rate else 200
    due: list[dict[str, Any]] = []
    for number, one in enumerate(load.paced(count, rate), 1):
        due.append(one)
        if len(due) == at_once or number == count:
            await asyncio.gather(*(create.kiq(request) for request in due))
            due.clear()
    await broker.shutdown()
    await events.shutdown()


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1]), float(sys.argv[2])))
