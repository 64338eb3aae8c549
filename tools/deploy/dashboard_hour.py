"""A minute that stands for an hour: two workers under load, faults, outage and recovery, scraped by Prometheus."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer, RedisServer
from tools.harness.prometheus import Prometheus
from tools.harness.running_system import RunningSystem, request

TICK = 0.1
REGIONS = ("cn-north-4", "eu-west-0")
FORBIDDEN, UNKNOWN = "f" * 32, "a" * 32
"""Projects whose calls are refused with 403 and 404."""
LOW = ("set_vm_memory_high_watermark", "absolute", "1000")
PATIENCE, START = 120.0, 60.0
"""Seconds that the broker may take for a command, and a worker to start, on a busy machine."""
USUAL = ("set_vm_memory_high_watermark", "0.4")


@dataclass
class Hour:
    """What there is to look at: Prometheus, and from when to when."""

    prometheus: Prometheus
    begun: float
    ended: float

    def range(self, query: str, step: float = 1.0) -> dict[str, Any]:
        """The answer to a query over the whole hour."""
        return self.prometheus.ask("query_range", query=query, start=self.begun, end=self.ended, step=step)


class Load:
    """Publishes requests at `rate` per second; `ill` of them are not what they should be."""

    def __init__(self, system: RunningSystem) -> None:
        self._system = system
        self._dice = random.Random(8)
        self.rate, self.ill, self.sent = 0.0, 0.0, 0
        self._owed = 0.0

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self._owed += self.rate * TICK
            due, self._owed = int(self._owed), self._owed % 1
            await asyncio.gather(*(self._one() for _ in range(due)), asyncio.sleep(TICK))

    async def _one(self) -> None:
        self.sent += 1
        await self._system.publish(self._body())

    def _body(self) -> dict[str, Any] | bytes:
        good = request(f"task-{self.sent}", region=self._dice.choice(REGIONS))
        if self._dice.random() >= self.ill:
            return good
        task = good["task"]
        return self._dice.choice(
            (
                b"no JSON",
                good | {"task": task | {"vpc_id": ""}},
                good | {"project_id": FORBIDDEN},
                good | {"project_id": UNKNOWN},
                good | {"not_after": "2020-01-01T00:00:00Z"},
            )
        )


async def play(folder: Path, act: float, stack: ExitStack) -> Hour:
    """Play the hour in acts of so many seconds. Prometheus stays, until `stack` is closed."""
    refused = {FORBIDDEN: ["error 403"], UNKNOWN: ["error 404"]}
    fake_dcs = FaultyDcs(latency=0.05, project_scripts=refused)
    with RabbitMqServer(plugins=("rabbitmq_prometheus",)) as rabbit, RedisServer() as redis:
        async with RunningSystem(rabbit.url, folder, fake_dcs) as system:
            told = {
                "WORKER_CLAIMS_URL": redis.url,
                "WORKER_DCS_ENDPOINTS": json.dumps(dict.fromkeys(REGIONS, fake_dcs.url)),
                "WORKER_LOG_LEVEL": "error",
            }
            workers = [system.worker(**told) for _ in range(2)]
            for worker in workers:
                await worker.ready(START)
            broker = [f"127.0.0.1:{rabbit.plugin_ports['rabbitmq_prometheus']}"]
            replicas = [f"127.0.0.1:{worker.http_port}" for worker in workers]
            jobs = {"dcs-worker": replicas, "rabbitmq": broker, "rabbitmq-queues": broker}
            prometheus = stack.enter_context(Prometheus(jobs))

            async def replace() -> None:
                """One replica is killed, and another starts in its place."""
                workers[1].process.kill()
                await workers[1].ended()
                new = system.worker(**told, WORKER_HTTP_PORT=workers[1].http_port)
                new.http_port = workers[1].http_port
                await new.ready(START)

            begun = time.time()
            await _script(Load(system), fake_dcs, rabbit, redis, replace, act)
            return Hour(prometheus, begun, time.time())


async def _script(
    load: Load,
    fake_dcs: FaultyDcs,
    rabbit: RabbitMqServer,
    redis: RedisServer,
    replace: Callable[[], Awaitable[None]],
    act: float,
) -> None:
    async def go_on(rate: float, *changes: Awaitable[object]) -> None:
        load.rate = rate
        for change in changes:
            await change
        await asyncio.sleep(act)

    publishing = asyncio.create_task(load.run())
    await go_on(15)
    await go_on(35)
    load.ill = 0.25
    faults = {"throttle 20/second": 0.05, "drop": 0.03, "create then hang": 0.02, "error 400": 0.02, "error 500": 0.02}
    await go_on(20, fake_dcs.apply(faults=faults))
    await go_on(25, fake_dcs.apply(faults=None, down="unavailable"))
    await go_on(20, fake_dcs.apply(down="no", quota={"limit": 30, "time": 1, "unit": "second"}))
    # Whoever was created unheard cannot be looked for now.
    await go_on(8, fake_dcs.apply(quota=None, forbidden=["list"], faults={"create then drop": 0.05}))
    load.ill = 0.0
    await go_on(10, fake_dcs.apply(forbidden=None, faults=None), replace())
    await go_on(8, asyncio.to_thread(redis.kill), rabbit.ctl(*LOW, deadline=PATIENCE))
    await go_on(12, rabbit.ctl(*USUAL, deadline=PATIENCE), asyncio.to_thread(redis.start))
    await go_on(15)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
