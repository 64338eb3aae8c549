"""Commands as processes or in this process, and a parked queue: set-up of tests of `parked` and `submit`."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from typer.testing import CliRunner

from schemas import names
from tools.harness.running_system import TOKEN, request
from tools.harness.warm_start import CommandResult, command
from worker.cli.app import app
from worker.rabbit.connection import Brokers
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.tools.parked_queue import ParkedMessage, open_parked_queue

ROOT = Path(__file__).parents[2]
PARKED = names.parked_queue(names.REQUEST_QUEUE)
COMMAND_TIMEOUT_SECONDS = 60.0
WIDE = "1000"
"""Columns, so that no line is wrapped."""

T = TypeVar("T")


def settings(amqp_url: str, folder: Path, endpoint: str = "http://127.0.0.1:1") -> dict[str, str]:
    """Settings of a command that match those of the workers of a RunningSystem."""
    return {
        "WORKER_AMQP_URL": amqp_url,
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": endpoint}),
        "WORKER_AUTH_TOKEN": TOKEN,
        "WORKER_RETRY_DELAYS": "1,2,4,8",
        "WORKER_SETTLE": "3",
        "WORKER_DCS_TIMEOUT": "2",
        "WORKER_SECRETS_DIR": str(folder),
    }


@dataclass(frozen=True)
class CommandLine:
    """Runs `dcs-worker` as separate processes."""

    environment: Mapping[str, str]
    folder: Path

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start the command."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker", *arguments),
            env=self._variables,
            cwd=self.folder,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )

    async def run(self, *arguments: str, stdin: bytes = b"") -> CommandResult:
        """Run the command to its end; killed if the caller stops waiting for it."""
        with command(arguments, self._variables, self.folder, stdin) as (process, result):
            async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
                await process.ended()
            return result()

    @property
    def _variables(self) -> dict[str, str]:
        return {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "COLUMNS": WIDE, **self.environment}


@dataclass(frozen=True)
class ParkedQueueSetup:
    """Queues of a vhost without a worker, and commands run in this process: for tests without an event loop."""

    amqp_url: str
    environment: Mapping[str, str]

    def run(self, *arguments: str, **changes: str) -> CommandResult:
        """Run `dcs-worker`."""
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": WIDE, **self.environment, **changes})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    def declare(self, arguments: Mapping[str, Any] | None = None) -> None:
        """Make the requests queue, and the parked queue with further `arguments`."""

        async def make(channel: AbstractChannel) -> None:
            for queue, more in ((names.REQUEST_QUEUE, {}), (PARKED, arguments or {})):
                await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum", **more})

        self._do(make)

    def declare_queues(self, *queues: str, with_message: str) -> None:
        """Make quorum queues, and put a message into one of them."""

        async def make(channel: AbstractChannel) -> None:
            for queue in queues:
                await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
            await channel.default_exchange.publish(aio_pika.Message(b""), with_message)

        self._do(make)

    def park(self, *bodies: Mapping[str, Any] | bytes, headers: Any = None, **properties: Any) -> None:
        """Put messages into the parked queue."""
        self._do(lambda channel: park(channel, *bodies, headers=headers, **properties))

    def park_many(self, count: int) -> list[str]:
        """Park so many requests; their ids, which are their names too."""
        ids = [f"parked-{number}" for number in range(count)]
        self.park(*(request(name, name) for name in ids))
        return ids

    def taken(self, queue: str = PARKED) -> list[AbstractIncomingMessage]:
        """Consume all messages of a queue."""

        async def take(channel: AbstractChannel) -> list[AbstractIncomingMessage]:
            opened = await channel.declare_queue(queue, passive=True)
            found = []
            while (message := await opened.get(no_ack=True, fail=False)) is not None:
                found.append(message)
            return found

        return self._do(take)

    def _do(self, work: Callable[[AbstractChannel], Awaitable[T]]) -> T:
        async def do() -> T:
            async with await aio_pika.connect(self.amqp_url) as connection:
                return await work(await connection.channel())

        return asyncio.run(do())


async def park(
    channel: AbstractChannel, *bodies: Mapping[str, Any] | bytes, headers: Any = None, **properties: Any
) -> None:
    """Put messages into the parked queue."""
    given = parked_headers() if headers is None else headers
    raw = (body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies)
    messages = (aio_pika.Message(body, headers=given, delivery_mode=2, **properties) for body in raw)
    await asyncio.gather(*(channel.default_exchange.publish(message, PARKED) for message in messages))


def parked_headers(**changes: Any) -> dict[str, Any]:
    """The headers that a worker parks a request with; None leaves one out."""
    headers = {
        names.ATTEMPTS: 1,
        names.ROUND: 4,
        names.DELIVERIES: 5,
        names.INTERRUPTIONS: 0,
        names.FIRST_RECEIVED_AT: "2026-11-01T08:00:00.000Z",
        names.PARKED_REASON: "exhausted",
        names.PARKED_AT: "2026-11-01T09:00:00.000Z",
    }
    changed = headers | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


async def read(amqp_url: str) -> list[ParkedMessage]:
    """Read all parked messages without removing them."""
    async with (
        open_connection(Brokers((amqp_url,)), "test") as connection,
        open_parked_queue(connection, names.REQUEST_QUEUE) as queue,
    ):
        return [message async for batch in queue.read() for message in batch]
