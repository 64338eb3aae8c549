"""Runs `doctor` as a process, and dumps the state of a broker that it must not change."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika

from schemas import names
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import free_port
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


def _run(
    arguments: tuple[str, ...], url: str, folder: Path, settings: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    defaults = {
        "PYTHONPATH": str(ROOT),
        "WORKER_AMQP_URL": url,
        "WORKER_AUTH_TOKEN": "stand-in-token",
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": f"http://127.0.0.1:{free_port()}"}),
        "WORKER_HTTP_PORT": "0",
    }
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={**os.environ, **defaults, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


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
    process = _run(("topology", "apply"), url, folder, settings)
    assert (process.returncode, process.stderr) == (0, "")


def doctor(url: str, folder: Path, *options: str, **settings: str) -> DoctorReport:
    """Run it; every failure and warning must come with a remedy."""
    process = _run(("doctor", "--json", *options), url, folder, settings)
    assert process.stderr == ""
    answer = json.loads(process.stdout)
    assert answer["status"] == process.returncode
    found = {f"{check['check']} {check['subject'] or ''}".strip(): check for check in answer["checks"]}
    assert all(check["remedy"] for check in found.values() if check["result"] in ("failed", "warning"))
    return DoctorReport(process.returncode, found, process.stdout)


def state(node: RabbitMqServer) -> str:
    """Every user, right, queue, exchange, binding and policy of the node."""
    definitions = json.loads(node.run_ctl("export_definitions", "-", "--format=json"))
    parts = ("vhosts", "users", "permissions", "queues", "exchanges", "bindings", "policies", "parameters")
    shares = {part: sorted(definitions.get(part, []), key=json.dumps) for part in parts}
    return json.dumps(shares, sort_keys=True)


def vhost_of(url: str) -> str:
    """The vhost of a URL."""
    return url.rpartition("/")[2]
