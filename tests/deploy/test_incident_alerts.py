"""Incidents of real workers under a real Prometheus: in each one the right alert fires, and no other.

All of them happen at the same time, each to another job, so that no alert may speak of another installation. A
minute of the rules lasts two seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aio_pika
import pytest

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer, RedisServer
from tests.live.redis_replicas import operator
from tools.harness.prometheus import Prometheus
from tools.harness.running_system import RunningSystem, WorkerProcess, request, until
from worker.tools.servers import free_port

pytestmark = [pytest.mark.dashboard, pytest.mark.timeout(600)]

MINUTE: Final = 2.0
CALM_SECONDS: Final = 10 * MINUTE
INCIDENT_SECONDS: Final = 20 * MINUTE
"""Longer than the windows and waits of every alert that an incident calls for."""
RATE: Final = 2.5
"""Requests a second that are published for each job."""
TOKEN: Final = "first-token"
FULL: Final[dict[str, Any]] = {"x-max-length": 1, "x-overflow": "reject-publish"}
LOW: Final = ("set_vm_memory_high_watermark", "absolute", "1000")


@dataclass
class Incident:
    """What happens to a job, and the alerts that it calls for."""

    job: str
    alerts: set[str]
    settings: Mapping[str, object] = field(default_factory=dict)
    fake_dcs: FaultyDcs = field(default_factory=lambda: FaultyDcs(auth={"mode": "token", "token": TOKEN}))
    port: int = field(default_factory=free_port)


@dataclass
class Play:
    """The servers, and one system and worker for each incident, by job."""

    rabbit: RabbitMqServer
    blocked: RabbitMqServer
    redis: RedisServer
    filling: RedisServer
    systems: dict[str, RunningSystem] = field(default_factory=dict)
    workers: dict[str, WorkerProcess] = field(default_factory=dict)

    def start(self, incident: Incident, **settings: object) -> None:
        """Start the worker of an incident, at the address that is scraped."""
        told = {"WORKER_HTTP_PORT": incident.port, "WORKER_AUTH_TOKEN": TOKEN, "WORKER_LOG_LEVEL": "warning"}
        worker = self.systems[incident.job].worker(**{**told, **incident.settings, **settings})
        worker.http_port = incident.port
        self.workers[incident.job] = worker

    async def publish(self, job: str) -> None:
        """Publish for ever."""
        number = 0
        while True:
            name = f"{job}-{number}"
            with suppress(Exception):
                async with asyncio.timeout(5):
                    await self.systems[job].publish(request(name, request_id=name))
            number += 1
            await asyncio.sleep(1 / RATE)

    async def fill_redis(self) -> None:
        """Less than a fifth of the memory is left."""
        async with operator(self.filling) as client:
            memory = await client.info("memory")
            await client.config_set("maxmemory", int(memory["used_memory"] * 1.2))

    async def bind_full_queue(self, job: str) -> None:
        """A queue whose reader is gone has no room for events."""
        async with await aio_pika.connect(self.systems[job].amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("reader", durable=True, arguments=FULL)
            await queue.bind(names.EVENT_EXCHANGE, "#")

    async def restart_with_other_queue(self, incident: Incident) -> None:
        """A queue exists with other arguments when the worker starts again: it exits with status 78."""
        worker = self.workers[incident.job]
        worker.process.terminate()
        await worker.ended()
        async with await aio_pika.connect(self.systems[incident.job].amqp_url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(f"{names.REQUEST_QUEUE}.retry.7s", durable=True)
        self.start(incident, WORKER_RETRY_DELAYS="1,7")
        assert await self.workers[incident.job].ended() == 78


def incidents(redis: RedisServer, filling: RedisServer) -> list[Incident]:
    """Each incident, and the alerts that it calls for."""
    return [
        Incident("calm", set()),
        Incident("broker-gone", {"DcsWorkerDisconnected"}),
        # With a backlog: the broker tells its alarm to those who publish, and senders are blocked.
        Incident("broker-blocked", {"DcsWorkerBrokerBlocked"}, {"WORKER_PREFETCH": 1}, FaultyDcs(latency=0.3)),
        Incident("dcs-fails", {"DcsWorkerBreakerOpen"}),
        Incident("token-revoked", {"DcsWorkerCredentialsRefused"}),
        Incident("wrong-endpoint", {"DcsWorkerRequestsFailing"}),
        Incident("all-rejected", {"DcsWorkerRequestsFailing"}),
        Incident("queues-refuse", {"DcsWorkerQueuesRefuse"}),
        Incident("redis-away", {"DcsWorkerClaimsAway"}, {"WORKER_CLAIMS_URL": redis.url}),
        Incident("redis-fills", {"DcsWorkerClaimsNearlyFull"}, {"WORKER_CLAIMS_URL": filling.url}),
        Incident("other-queue", {"DcsWorkerAbsent"}),
    ]


async def break_all(play: Play, by_job: Mapping[str, Incident]) -> None:
    """Let every incident begin."""
    dcs = {job: play.systems[job].fake_dcs for job in by_job}
    unknown = "error 404 APIGW.0101"
    causes: list[Callable[[], Awaitable[object]]] = [
        lambda: play.rabbit.ctl("delete_vhost", "broker-gone"),
        lambda: play.blocked.ctl(*LOW),
        lambda: dcs["dcs-fails"].apply(down="unavailable"),
        lambda: dcs["token-revoked"].apply(auth={"token": "second-token"}),
        lambda: dcs["wrong-endpoint"].apply(operation_scripts={"create": [unknown], "list": [unknown]}),
        lambda: dcs["all-rejected"].apply(faults={"error 400 DCS.4013": 1.0}),
        lambda: play.bind_full_queue("queues-refuse"),
        lambda: asyncio.to_thread(play.redis.kill),
        play.fill_redis,
        lambda: play.restart_with_other_queue(by_job["other-queue"]),
    ]
    await asyncio.gather(*(cause() for cause in causes))


async def played(
    folder: Path, rabbit: RabbitMqServer, blocked: RabbitMqServer, redis: RedisServer, filling: RedisServer
) -> dict[str, set[str]]:
    """The alerts that fired during the incidents, by job."""
    everything = incidents(redis, filling)
    play = Play(rabbit, blocked, redis, filling)
    targets = {incident.job: [f"127.0.0.1:{incident.port}"] for incident in everything}
    async with AsyncExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(targets, minute_seconds=MINUTE))
        for incident in everything:
            node = blocked if incident.job == "broker-blocked" else rabbit
            await node.ctl("add_vhost", incident.job)
            await node.ctl("set_permissions", "-p", incident.job, "guest", ".*", ".*", ".*")
            (folder / incident.job).mkdir()
            system = RunningSystem(node.vhost_url(incident.job), folder / incident.job, incident.fake_dcs)
            play.systems[incident.job] = await stack.enter_async_context(system)
            play.start(incident)
        for worker in play.workers.values():
            await worker.ready(60)
        publishing = [asyncio.create_task(play.publish(incident.job)) for incident in everything]
        await asyncio.sleep(CALM_SECONDS)
        started_at = time.time()
        assert ever_fired(prometheus, started_at - CALM_SECONDS) == {}
        await break_all(play, {incident.job: incident for incident in everything})
        expected = {incident.job: incident.alerts for incident in everything if incident.alerts}
        await asyncio.sleep(INCIDENT_SECONDS)
        await until(
            lambda: ever_fired(prometheus, started_at) == expected, 15, lambda: ever_fired(prometheus, started_at)
        )
        for task in publishing:
            task.cancel()
        await asyncio.gather(*publishing, return_exceptions=True)
        return ever_fired(prometheus, started_at)


def ever_fired(prometheus: Prometheus, since: float) -> dict[str, set[str]]:
    """The alerts that have fired since a time, by job."""
    query = {"query": 'ALERTS{alertstate="firing"}', "start": since, "end": time.time(), "step": 1}
    answer = prometheus.ask("query_range", **query)
    assert answer["status"] == "success", answer
    found: dict[str, set[str]] = {}
    for series in answer["data"]["result"]:
        found.setdefault(series["metric"].get("job", ""), set()).add(series["metric"]["alertname"])
    return found


async def test_each_incident_rings_its_alert_and_no_other(tmp_path: Path) -> None:
    """Neither the first minutes nor any moment of another incident rings a wrong one."""
    with RabbitMqServer() as rabbit, RabbitMqServer() as blocked, RedisServer() as redis, RedisServer() as filling:
        fired = await played(tmp_path, rabbit, blocked, redis, filling)
        assert fired == {incident.job: incident.alerts for incident in incidents(redis, filling) if incident.alerts}
