"""Runs `doctor` as a process, and dumps the state of a broker that it must not change."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika

from schemas import names
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import free_port
from tools.harness.warm_start import CommandResult, command
from worker.rabbit.topology import describe

ROOT = Path(__file__).parents[2]
QUEUE = names.REQUEST_QUEUE
PASSWORD = "the-secret-of-this-test"


@dataclass
class DoctorReport:
    """Exit status and output of `doctor`; checks by name and subject."""

    status: int
    found: dict[str, dict[str, Any]]
    output: str

    def failed(self) -> set[str]:
        """Names of the failed checks."""
        return {name for name, check in self.found.items() if check["result"] == "failed"}


def _run(arguments: tuple[str, ...], url: str, folder: Path, settings: dict[str, str]) -> CommandResult:
    defaults = {
        "PYTHONPATH": str(ROOT),
        "WORKER_AMQP_URL": url,
        "WORKER_AUTH_TOKEN": "stand-in-token",
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": f"http://127.0.0.1:{free_port()}"}),
        "WORKER_HTTP_PORT": "0",
    }
    with command(arguments, {**os.environ, **defaults, **settings}, folder) as (process, result):
        process.wait(90)
        return result()


def declare_retry_queue(url: str, seconds: float, milliseconds: int) -> None:
    """Declare the retry queue of this delay as somebody else might: with another message TTL."""
    (queue,) = describe(QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, (seconds,)).queues[2:]

    async def declare() -> None:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            arguments = queue.all_arguments | {"x-message-ttl": milliseconds}
            await channel.declare_queue(queue.name, durable=True, arguments=arguments)

    asyncio.run(declare())


def apply(url: str, folder: Path, **settings: str) -> None:
    """Declare the topology of a worker, all of it."""
    done = _run(("topology", "apply"), url, folder, settings)
    assert (done.status, done.errors) == (0, "")


def doctor(url: str, folder: Path, *options: str, **settings: str) -> DoctorReport:
    """Run it; every failure and warning must come with a remedy."""
    done = _run(("doctor", "--json", *options), url, folder, settings)
    assert done.errors == ""
    answer = done.answer
    assert answer["status"] == done.status
    found = {f"{check['check']} {check['subject'] or ''}".strip(): check for check in answer["checks"]}
    assert all(check["remedy"] for check in found.values() if check["result"] in ("failed", "warning"))
    return DoctorReport(done.status, found, done.output)


def state(node: RabbitMqServer) -> str:
    """Every user, right, queue, exchange, binding and policy of the node."""
    definitions = json.loads(node.run_ctl("export_definitions", "-", "--format=json"))
    parts = ("vhosts", "users", "permissions", "queues", "exchanges", "bindings", "policies", "parameters")
    shares = {part: sorted(definitions.get(part, []), key=json.dumps) for part in parts}
    return json.dumps(shares, sort_keys=True)


def vhost_of(url: str) -> str:
    """The vhost of a URL."""
    return url.rpartition("/")[2]
