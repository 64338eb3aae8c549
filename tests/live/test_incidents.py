"""Six incidents with a real worker: it says soon and truly what is wrong, and afterwards everything flows by itself.

Broker gone, DCS answers 503, token revoked, wrong endpoint, DCS refuses all requests, Redis gone. In each one
`/readyz`, metric and log agree on the status and name the error; after the cure every request has one task, and nothing
is parked.
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.event import SUCCEEDED_KEY
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RedisServer
from tools.bench.servers import make_old
from tools.harness.running_system import RunningSystem, WorkerProcess, machine_load_factor, request, until

DEADLINE_SECONDS = 15.0
"""From the beginning of an incident to its status, on an idle machine."""
COUNT = 12
RETRY_DELAYS = (1, 4)
SETTINGS = {"WORKER_RETRY_DELAYS": "1,4"}
LEVELS = {
    "ok": "info",
    "degraded": "warning",
    "paused": "warning",
    "disconnected": "warning",
    "failing": "error",
}
"""The log level of the line that reports a change to this status."""


@dataclass
class Watch:
    """One worker, and the incident that it must report."""

    system: RunningSystem
    worker: WorkerProcess
    sent: list[str] = field(default_factory=list)

    async def publish(self, prefix: str, count: int = COUNT) -> None:
        """Publish so many requests."""
        for number in range(count):
            name = f"{prefix}-{number}"
            self.sent.append(name)
            await self.system.publish(request(name, request_id=name))

    async def reports(self, status: str, *words: str, since: float) -> str:
        """Wait until `/readyz` has this status and a sentence with these words, in time; metric and log must agree."""
        await until(lambda: self._is_said(status, words), DEADLINE_SECONDS, self._explain)
        assert time.monotonic() - since < DEADLINE_SECONDS * machine_load_factor()
        code, _, reason = self._readyz()
        assert code == (503 if status == "disconnected" else 200)
        await until(lambda: self._measured() == {status}, 5, self._explain)
        (change,) = self.lines("health.changed", status=status)[-1:]
        assert change["level"] == LEVELS[status], change
        assert change["reason"], change
        return reason

    async def flows(self) -> None:
        """Wait until every request is answered, with one task each, and all queues are empty, the parked one too."""
        await self.system.answered(len(self.sent), 40)
        self.system.assert_one_task_each(self.sent)
        assert {event.key for event in self.system.events} == {SUCCEEDED_KEY}
        async with asyncio.timeout(20 * machine_load_factor()):
            while not await self.system.all_empty(RETRY_DELAYS):
                await asyncio.sleep(0.1)

    def lines(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The log lines of an event that have these fields."""
        found = [line for line in self.worker.log() if line["event"] == event]
        return [line for line in found if fields.items() <= line.items()]

    async def logs(self, event: str, level: str, *words: str) -> None:
        """Wait for a log line of an event; each of them has this level, and the last one these words."""
        await until(lambda: bool(self.lines(event)), 5, self._explain)
        lines = self.lines(event)
        assert {line["level"] for line in lines} == {level}, lines
        assert all(word in json.dumps(lines[-1]) for word in words), lines[-1]

    def _readyz(self) -> tuple[int, str, str]:
        code, body = self.worker.get("/readyz")
        content = json.loads(body or "{}")
        return code, content.get("status", ""), content.get("reason", "")

    def _is_said(self, status: str, words: tuple[str, ...]) -> bool:
        _, found, reason = self._readyz()
        return found == status and all(word in reason for word in words)

    def _measured(self) -> set[str]:
        """The statuses that are 1 in the metric."""
        return {
            status
            for status in (*LEVELS, "starting", "draining")
            if self.worker.metric("dcs_worker_health_status", f'status="{status}"') == 1
        }

    def _explain(self) -> str:
        return f"{self._readyz()} {self._measured()}\n{self.worker.explain()}"


class BrokerRelay:
    """TCP relay in front of a broker, which can be shut: connections are then cut, and new ones refused."""

    def __init__(self, amqp_url: str) -> None:
        self._target = urlsplit(amqp_url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The AMQP URL of the broker through the relay."""
        return self._target._replace(netloc=f"guest:guest@127.0.0.1:{self._port}").geturl()

    async def open(self) -> None:
        """Accept connections, always on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._target.port is not None
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._target.port)
        for source, sink in ((reader, broker_writer), (broker_reader, writer)):
            self._writers.add(sink)
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                while piece := await source.read(65536):
                    sink.write(piece)
        finally:
            sink.close()
            self._writers.discard(sink)


@asynccontextmanager
async def watching(
    amqp_url: str, folder: Path, fake_dcs: FaultyDcs | None = None, **settings: object
) -> AsyncIterator[Watch]:
    """A worker that is ready, and `ok`."""
    async with RunningSystem(amqp_url, folder, fake_dcs or FaultyDcs()) as system:
        watch = Watch(system, system.worker(**SETTINGS | settings))
        await watch.worker.ready()
        await watch.reports("ok", since=time.monotonic())
        yield watch


async def test_lost_broker_is_reported_and_requests_resume(vhost: str, tmp_path: Path) -> None:
    """`disconnected` with address and reason, while calls are in flight; `ok` again with the first connection."""
    relay = BrokerRelay(vhost)
    await relay.open()
    try:
        async with watching(vhost, tmp_path, FaultyDcs(latency=0.2), WORKER_AMQP_URL=relay.url) as watch:
            await watch.publish("before")
            await watch.system.answered(2)
            began = time.monotonic()
            await relay.shut()
            await watch.publish("meanwhile")
            await watch.reports("disconnected", urlsplit(relay.url).netloc.rpartition("@")[2], "refused", since=began)
            await watch.logs("broker.disconnected", "warning", "retry_in_seconds", "broker")
            await relay.open()
            await watch.reports("ok", since=time.monotonic())
            await watch.logs("broker.connected", "info")
            await watch.flows()
    finally:
        await relay.shut()


async def test_failing_dcs_is_reported_and_requests_resume(vhost: str, tmp_path: Path) -> None:
    """DCS answers 503: `paused` by the breaker, with the answer; nothing is parked, all are created afterwards."""
    async with watching(vhost, tmp_path) as watch:
        began = time.monotonic()
        await watch.system.fake_dcs.apply(down="unavailable")
        await watch.publish("outage")
        await watch.reports("paused", "cn-north-4", "503", "APIGW.0601", since=began)
        await watch.logs("breaker.opened", "error", "cn-north-4")
        assert not watch.system.events
        await watch.system.fake_dcs.apply(down="no")
        await watch.flows()
        await watch.logs("breaker.closed", "info", "cn-north-4")


async def test_revoked_token_is_reported_and_rotation_ends_it(vhost: str, tmp_path: Path) -> None:
    """`failing` with 401; nothing is parked; a new secret file is read, probed at once, and everything flows."""
    secret = tmp_path / "worker_auth_token"
    secret.write_text("first-token")
    fake_dcs = FaultyDcs(auth={"mode": "token", "token": "first-token"})
    async with watching(vhost, tmp_path, fake_dcs, WORKER_AUTH_TOKEN=None) as watch:
        await watch.publish("accepted", 1)
        await watch.system.answered(1)
        began = time.monotonic()
        await fake_dcs.apply(auth={"token": "second-token"})
        await watch.publish("revoked")
        await watch.reports("failing", "401", "DCS.1001", since=began)
        await watch.logs("credentials.rejected", "error", "401")
        assert len(watch.system.events) == 1
        replacement = tmp_path / ".new"
        replacement.write_text("second-token")
        replacement.rename(secret)
        await watch.flows()
        await watch.logs("secrets.reloaded", "info")
        await watch.logs("credentials.accepted", "info")
        for token in ("first-token", "second-token"):
            assert token not in watch.worker.log_path.read_text()


async def test_wrong_endpoint_is_reported_and_parks_nothing(vhost: str, tmp_path: Path) -> None:
    """`failing` with 404 and the setting to check; the corrected worker does what the other one handed back."""
    fake_dcs = FaultyDcs()
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        endpoints = json.dumps({"cn-north-4": f"{fake_dcs.url}/v3/x"})
        watch = Watch(system, system.worker(**SETTINGS, WORKER_DCS_ENDPOINTS=endpoints))
        await watch.worker.ready()
        began = time.monotonic()
        await watch.publish("astray")
        await watch.reports("failing", "cn-north-4", "404", "APIGW.0101", "WORKER_DCS_ENDPOINTS", since=began)
        await watch.logs("region.rejected", "error", "APIGW.0101")
        assert not system.events
        watch.worker.process.send_signal(signal.SIGTERM)
        assert await watch.worker.ended() == 0
        watch.worker = system.worker(**SETTINGS)
        await watch.flows()


async def test_flood_of_refusals_is_reported_and_senders_may_repeat(vhost: str, tmp_path: Path) -> None:
    """`failing` with 400 and its code, although nothing is held; what is sent again afterwards is created."""
    async with watching(vhost, tmp_path) as watch:
        count = 60
        began = time.monotonic()
        await watch.system.fake_dcs.apply(faults={"error 400 DCS.4013": 1.0})
        await watch.publish("refused", count)
        await watch.reports("failing", "400", "DCS.4013", since=began)
        await watch.logs("request.failed", "warning", "DCS.4013")
        await watch.system.answered(count)
        assert {event.body["reason"] for event in watch.system.events} == {"rejected"}
        assert len(watch.lines("request.failed", error_code="DCS.4013")) < count, "a flood is summarised"
        await watch.system.fake_dcs.apply(faults=None)
        watch.system.events.clear()
        for name in watch.sent:
            await watch.system.publish(request(name, request_id=name))
        await watch.flows()


async def test_lost_redis_is_reported_and_work_continues(vhost: str, redis_node: RedisServer, tmp_path: Path) -> None:
    """Redis is killed: `degraded`, and requests are answered as before; it comes back empty, and no task is doubled."""
    async with watching(vhost, tmp_path, WORKER_CLAIMS_URL=redis_node.url) as watch:
        await watch.publish("before")
        await watch.system.answered(COUNT)
        began = time.monotonic()
        await asyncio.to_thread(redis_node.kill)
        await watch.reports("degraded", "Connection refused", since=began)
        await watch.logs("redis.unavailable", "warning", "refused")
        await watch.publish("away")
        await watch.system.answered(2 * COUNT)
        await asyncio.to_thread(redis_node.start)
        await watch.publish("after")
        await watch.flows()
        await watch.logs("redis.available", "info")


async def test_silent_redis_pauses_work_if_it_must(vhost: str, redis_node: RedisServer, tmp_path: Path) -> None:
    """Redis does not answer under `WORKER_CLAIMS_AWAY=pause`: `paused`, no create, and all of them afterwards."""
    make_old(redis_node)
    async with watching(vhost, tmp_path, WORKER_CLAIMS_URL=redis_node.url, WORKER_CLAIMS_AWAY="pause") as watch:
        began = time.monotonic()
        redis_node.freeze()
        await watch.reports("paused", "does not answer in time", since=began)
        await watch.logs("redis.unavailable", "warning")
        await watch.publish("away")
        assert not watch.system.fake_dcs.tasks
        redis_node.thaw()
        await watch.flows()
        await watch.logs("redis.available", "info")
