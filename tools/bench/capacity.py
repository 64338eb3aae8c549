"""What `deploy/capacity.md` counts with, measured: a worker as deployed, one quorum queue, what Redis keeps.

`.venv/bin/python -m tools.bench.capacity` writes `capacity.json`, and the document anew.
"""

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from aiormq.abc import DeliveredMessage

from schemas import names
from schemas.envelope import Envelope
from schemas.request import Request, Task
from tests.fakes.servers import RabbitMqServer, RedisServer
from tools.bench import load, sizing
from tools.bench.competitors import Places, worker
from tools.bench.measure import running, throughput
from tools.bench.queues import make_vhosts
from tools.bench.servers import Nginx, make_old
from worker.claims.redis_claims import RedisClaims
from worker.policy.migration_request import migration
from worker.rabbit.connection import Brokers, connected, open_channel
from worker.rabbit.tools.sender import open_sender
from worker.rabbit.topology import declare, describe

REQUESTS = 6_000
SECONDS = 30.0
FLOOD = 5_000
CLAIMS = 2_000
CTL = 120.0


class Deaf:
    """Is told of claims, and does nothing."""

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis can be used from now on, or not any more."""

    def claims_doubted(self, seconds: float) -> None:
        """Redis is new or forgot its records."""

    def claims_memory_used(self, ratio: float | None) -> None:
        """Redis told how full it is."""

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """A record was replaced."""


async def deployed(node: RabbitMqServer, places: Places, server: RedisServer) -> dict[str, int]:
    """A worker with claims that logs at info into a file: what a request costs, and what it leaves in Redis."""
    competitor = worker("deployed", "", WORKER_LOG_LEVEL="info", WORKER_CLAIMS_URL=server.url)
    with redis.Redis.from_url(server.url) as client:
        before: dict[str, Any] = client.info("memory")
        async with running(competitor, places, waiting=REQUESTS) as started:
            cost = await throughput(started, REQUESTS, SECONDS)
            listed = json.loads(
                node.run_ctl("list_connections", "client_properties", "--formatter", "json", deadline=CTL)
            )
            after: dict[str, Any] = client.info("memory")
            kept = client.dbsize() - 1
            clients: dict[str, Any] = client.info("clients")
    return {
        "cpu_us": round(cost.cpu_us),
        "rss_mb": round(cost.rss_mb),
        "outcome_bytes": round((after["used_memory"] - before["used_memory"]) / kept),
        "amqp_connections": sum("dcs-worker" in json.dumps(one) for one in listed),
        "redis_connections": clients["connected_clients"] - 1,
    }


async def claim_bytes(server: RedisServer) -> int:
    """What one claim takes in Redis."""
    with redis.Redis.from_url(server.url) as client:
        claims = RedisClaims(lambda: server.url, Deaf())
        await claims.start()
        before: dict[str, Any] = client.info("memory")
        there: int = client.dbsize()
        for number in range(CLAIMS):
            one = load.request(number)
            request = Request(request_id=one["request_id"], project_id=load.PROJECT, task=Task(**one["task"]))
            first, now = migration(request, default_region="cn-north-4", with_marker=True), time.time()
            await claims.take(first, now, Envelope.read({}, redelivered=False, now=now))
        after: dict[str, Any] = client.info("memory")
        kept: int = client.dbsize() - there  # Redis may have been too late for some
        await claims.aclose()
    taken: int = after["used_memory"] - before["used_memory"]
    return round(taken / kept)


async def queue(url: str) -> dict[str, int]:
    """Requests that one quorum queue takes in a second, each confirmed; and that go through it, acknowledged too."""
    async with connected(Brokers((url,)), 0, "bench") as connection:
        await declare(connection, describe(load.REQUESTS, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, (60.0,)))
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=spawn) as processes:
            list(processes.map(_flood, [url] * 2, [500] * 2))  # processes are up and warm
            taken = await _rate(processes, [_flood, _flood], url)
            through = await _rate(processes, [_flood, _drain], url)
    return {"queue_in_per_second": taken, "queue_through_per_second": through}


async def _rate(processes: ProcessPoolExecutor, parts: list[Any], url: str) -> int:
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(processes, part, url, FLOOD) for part in parts))
    floods = sum(part is _flood for part in parts)
    return round(FLOOD * floods / (time.perf_counter() - started))


def _flood(url: str, number: int) -> None:
    async def publish() -> None:
        async with (
            connected(Brokers((url,)), 0, "flood") as connection,
            open_sender(connection, names.REQUEST_EXCHANGE) as sender,
            sender.batch() as batch,
        ):
            for one in range(number):
                await batch.put(json.dumps(load.request(one)).encode())

    _run(publish())


def _drain(url: str, number: int) -> None:
    async def consume() -> None:
        seen, done = 0, asyncio.Event()

        async def take(message: DeliveredMessage) -> None:
            nonlocal seen
            await message.channel.basic_ack(message.delivery_tag or 0, wait=False)
            seen += 1
            if seen == number:
                done.set()

        async with connected(Brokers((url,)), 0, "drain") as connection, open_channel(connection) as channel:
            await channel.basic_qos(prefetch_count=load.IN_FLIGHT)
            answer = await channel.basic_consume(load.REQUESTS, take)
            await done.wait()
            await channel.basic_cancel(answer.consumer_tag or "")  # else acknowledgements would come after the end

    _run(consume())


def _run(coroutine: Any) -> None:
    import uvloop

    uvloop.run(coroutine)


async def measure() -> dict[str, Any]:
    """Everything that is counted with."""
    with ExitStack() as stack:
        node = stack.enter_context(RabbitMqServer())
        nginx = stack.enter_context(Nginx())
        server = stack.enter_context(RedisServer())
        make_old(server)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_vhosts(node, {"deployed": False, "flood": False}, folder)
        found: dict[str, Any] = {"rabbitmq": node.run_ctl("version", deadline=CTL).strip()}
        found |= await deployed(node, Places(node.vhost_url("deployed"), nginx.url), server)
        found |= {"claim_bytes": await claim_bytes(server)}
        return found | await queue(node.vhost_url("flood"))


def main() -> None:
    """Measure, keep, and write the document anew."""
    sizing.MEASURED.write_text(json.dumps(asyncio.run(measure()), indent=2) + "\n")
    sizing.renew()
    sys.stdout.write(sizing.MEASURED.read_text())


if __name__ == "__main__":
    main()
