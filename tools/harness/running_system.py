"""Real worker processes between a real broker and the fake DCS, for live tests and storms."""

import asyncio
import json
import os
import signal
import socket
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tools.harness.warm_start import WarmProcess, start
from worker.rabbit import lenient_codec

PROJECT = "0123456789abcdef0123456789abcdef"
TOKEN = "t" * 64
EVENTS = "test.events"
RETRY_DELAYS = (1, 2, 4, 8)
MAX_WAIT_SECONDS = 90.0
"""Longest wait for one condition: below the limit of a whole test, which is 120 seconds."""


def request(name: str, request_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """Body of a valid request for a task of this name."""
    task = {
        "name": name,
        "description": "Creating an online data migration task",
        "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481",
        "subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c",
        "security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7",
    }
    identity = {"request_id": request_id or str(uuid.uuid4()), "project_id": PROJECT, "region": "cn-north-4"}
    return identity | {"task": task} | changes


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Event:
    """One event as a consumer receives it."""

    key: str
    body: dict[str, Any]
    headers: dict[str, Any]
    properties: AbstractIncomingMessage


@dataclass
class WorkerProcess:
    """One worker process."""

    process: WarmProcess
    http_port: int
    log_path: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """Log lines so far; each must be one JSON object."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page; status 0 while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except OSError as error:
            body = error.read().decode() if hasattr(error, "read") else ""
            return getattr(error, "code", 0), body

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's samples that carry all of `labels` (`name="value"`)."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(name)]
        rows = [line for line in lines if line[len(name)] in " {" and all(label in line for label in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in rows)

    async def ready(self, seconds: float = 20) -> float:
        """Wait until it is ready; how long it took."""
        started = time.monotonic()
        await until(lambda: self.process.poll() is not None or self.get("/readyz")[0] == 200, seconds, self.explain)
        assert self.process.poll() is None, self.explain()
        return time.monotonic() - started

    async def ended(self, seconds: float = 15) -> int:
        """Wait for its end; the exit status."""
        await until(lambda: self.process.poll() is not None, seconds, self.explain)
        return self.process.wait()

    def explain(self) -> str:
        """The end of the log."""
        return self.log_path.read_text()[-1500:]


def machine_load_factor() -> float:
    """How much longer everything takes than on an idle machine, from the load average."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


async def until(condition: Callable[[], bool], seconds: float, explain: Callable[[], object] = str) -> None:
    """Wait for a condition; raise AssertionError with `explain()` if it does not become true.

    `seconds` are enough on an idle machine. Up to four times as long is waited, within MAX_WAIT_SECONDS.
    """
    end = time.monotonic() + max(seconds, min(seconds * 4, MAX_WAIT_SECONDS))
    while not condition():
        assert time.monotonic() < end, explain()
        await asyncio.sleep(0.05)


@dataclass
class RunningSystem:
    """Broker, fake DCS, workers and a reader of the events; closes everything that it opened."""

    amqp_url: str
    folder: Path
    fake_dcs: FaultyDcs = field(default_factory=FaultyDcs)
    workers: list[WorkerProcess] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        lenient_codec.install()  # what this process publishes and reads may be hostile
        await self.fake_dcs.__aenter__()
        self._connection = await aio_pika.connect_robust(self.amqp_url, reconnect_interval=0.5)
        self._channel = await self._connection.channel()
        self._exchange = await self._channel.declare_exchange(
            names.EVENT_EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True
        )
        queue = await self._channel.declare_queue(EVENTS, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(self._exchange, "#")
        await queue.consume(self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGCONT)
                worker.process.kill()
            worker.process.wait()
        with suppress(Exception):
            async with asyncio.timeout(5):
                await self._connection.close()
        await self.fake_dcs.__aexit__(None, None, None)

    async def _read(self, message: AbstractIncomingMessage) -> None:
        self.events.append(Event(message.routing_key or "", json.loads(message.body), dict(message.headers), message))
        with suppress(Exception):
            await message.ack()

    def worker(self, **environment: object) -> WorkerProcess:
        """Start a worker; `environment` overrides its settings."""
        port = free_port()
        settings = {
            "PATH": os.defpath,
            "WORKER_AMQP_URL": self.amqp_url,
            "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": self.fake_dcs.url}),
            "WORKER_HTTP_HOST": "127.0.0.1",
            "WORKER_HTTP_PORT": port,
            "WORKER_AUTH_TOKEN": TOKEN,
            "WORKER_RETRY_DELAYS": ",".join(map(str, RETRY_DELAYS)),
            "WORKER_SETTLE": 3,
            "WORKER_DCS_TIMEOUT": 2,
            "WORKER_DRAIN": 5,
            "WORKER_SECRETS_DIR": self.folder,
        } | environment
        log_path = self.folder / f"worker-{len(self.workers)}.log"
        with log_path.open("wb") as log:
            given = {name: str(value) for name, value in settings.items() if value is not None}
            with Path(os.devnull).open("rb") as nothing:
                process = start(["run"], given, (nothing, log, log))
        worker = WorkerProcess(process, port, log_path)
        self.workers.append(worker)
        return worker

    async def publish(self, body: dict[str, Any] | bytes, *, exchange: str = "", **properties: Any) -> None:
        """Publish a request, straight to the queue or as senders do; retried while the broker is away."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        settings: dict[str, Any] = {"delivery_mode": 2, "content_type": names.JSON} | properties
        message = aio_pika.Message(raw, **settings)
        end = time.monotonic() + 60
        while True:
            try:
                async with asyncio.timeout(5):
                    if exchange:
                        target = await self._channel.get_exchange(exchange, ensure=False)
                        await target.publish(message, names.REQUEST_KEY)
                    else:
                        await self._channel.default_exchange.publish(message, names.REQUEST_QUEUE)
                return
            except Exception:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.3)

    async def depth(self, queue: str) -> int:
        """Messages ready in a queue."""
        async with await self._connection.channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    async def all_empty(self, delays: Sequence[float] = RETRY_DELAYS) -> bool:
        """Whether requests, retry and parked queues hold nothing."""
        retry = [names.retry_queue(names.REQUEST_QUEUE, delay) for delay in delays]
        queues = [names.REQUEST_QUEUE, names.parked_queue(names.REQUEST_QUEUE), *retry]
        return not sum([await self.depth(queue) for queue in queues])

    def by_request(self) -> dict[str, list[Event]]:
        """The events so far, by the request id in their body."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in list(self.events):
            found[event.body["request_id"]].append(event)
        return found

    async def answered(self, count: int, seconds: float = 60) -> dict[str, list[Event]]:
        """Wait until events for so many requests have arrived."""
        await until(lambda: len(self.by_request()) >= count, seconds, lambda: self._explain(count))
        return self.by_request()

    def _explain(self, count: int) -> str:
        logs = "\n".join(worker.explain() for worker in self.workers)
        return f"{len(self.by_request())} of {count} requests answered\n{logs}"

    def assert_one_task_each(self, request_names: list[str]) -> None:
        """Assert one task per name, and for every request events of one type and one id."""
        created = [task.name for task in self.fake_dcs.tasks]
        assert sorted(created) == sorted(request_names), {
            name: created.count(name) for name in {*created, *request_names}
        }
        for events in self.by_request().values():
            assert len({event.headers["cloudEvents:id"] for event in events}) == 1
            assert len({event.key for event in events}) == 1
