"""Outages, quotas, slowness and crowds: real workers between a real broker and the fake DCS, held against numbers.

Short forms: tests/live/test_throttling.py. Long forms: `make flow-storm`, or one of them,
`make flow-storm ARGS=outage` (outage-refuse, outage-hang, quota, quota-of-project, random-refusals, latency, tenants,
memory).
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, WorkerProcess, request, until
from worker.rabbit.topology import declare, describe
from worker.tools.fake_dcs import CallRecord

CROWD = "f" * 32
"""The project that sends too much."""
MEGABYTE = 1 << 20
BATCH = 1000
"""Requests that are confirmed together."""
BUSY = 'reply 429 {"error_code": "APIG.0308", "error_msg": "Busy"}'
"""A refusal that names no limit."""
DELAYS = (10.0, 60.0, 300.0, 1800.0)
DEFAULTS = {
    "WORKER_RETRY_DELAYS": ",".join(map(str, DELAYS)),
    "WORKER_SETTLE": 45,
    "WORKER_DCS_TIMEOUT": 30,
    "WORKER_RECONCILE": "ambiguous",  # creates are counted
}
"""What the stage sets shorter."""


async def publish(system: RunningSystem, ids: Sequence[str], **changes: Any) -> None:
    """Put many requests into the queue, and return when they are there."""
    async with await aio_pika.connect(system.amqp_url) as connection:
        channel = await connection.channel()
        for begin in range(0, len(ids), BATCH):
            bodies = (json.dumps(request(name, request_id=name, **changes)) for name in ids[begin : begin + BATCH])
            messages = [aio_pika.Message(body.encode(), delivery_mode=2, content_type=names.JSON) for body in bodies]
            sending = (channel.default_exchange.publish(message, names.REQUEST_QUEUE) for message in messages)
            await asyncio.gather(*sending)


async def fill(system: RunningSystem, ids: Sequence[str], delays: tuple[float, ...]) -> None:
    """Put many requests into the queue before there is any worker."""
    async with await aio_pika.connect(system.amqp_url) as connection:
        await declare(connection, describe(names.REQUEST_QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, delays))
    await publish(system, ids)


async def workers(system: RunningSystem, count: int, **settings: object) -> list[WorkerProcess]:
    """So many replicas, ready."""
    started = [system.worker(WORKER_LOG_LEVEL="debug", **settings) for _ in range(count)]  # every line, also in floods
    for worker in started:
        await worker.ready()
    return started


def between(calls: Sequence[CallRecord], begin: float, end: float) -> list[CallRecord]:
    """The calls that arrived in a time."""
    return [call for call in calls if begin <= call.at < end]


async def outage(
    url: str, folder: Path, *, requests: int = 3000, prefetch: int = 64, seconds: float = 30.0, how: str = "unavailable"
) -> str:
    """The service is away with requests waiting: two replicas hardly ask, lose nothing, and are back soon."""
    fake_dcs = FaultyDcs(latency=0.3)
    async with RunningSystem(url, folder, fake_dcs) as system:
        replicas = await workers(system, 2, WORKER_PREFETCH=prefetch)
        ids = [f"outage-{number}" for number in range(requests)]
        await publish(system, ids)
        await until(lambda: len(fake_dcs.tasks) > requests / 20, 30, replicas[0].explain)
        await fake_dcs.apply({"latency": 600.0} if how == "hang" else {"down": how})
        await until(lambda: all(_is_open(worker) for worker in replicas), 40, replicas[0].explain)
        await asyncio.sleep(0.5)
        opened, waiting = time.time(), await system.depth(names.REQUEST_QUEUE)
        assert waiting > 0
        assert [worker.get("/readyz")[0] for worker in replicas] == [200, 200]
        for worker in replicas:
            _assert_it_says_why(worker)
        before = _calls(replicas)
        await asyncio.sleep(seconds)
        assert await system.depth(names.REQUEST_QUEUE) >= waiting
        await fake_dcs.apply({"latency": 0.3} if how == "hang" else {"down": "no"})
        returned = time.time()
        asked = max(len(between(fake_dcs.calls, opened, returned)), _calls(replicas) - before)
        assert asked <= seconds + 1, f"{asked} calls in {seconds:.0f} s"
        await until(
            lambda: any(call.at > returned and call.status == 200 for call in fake_dcs.calls), 30, replicas[0].explain
        )
        first = min(call.at for call in fake_dcs.calls if call.at > returned and call.status == 200) - returned
        assert first <= 10, f"first success {first:.1f} s after the return"
        await system.answered(requests, 60 + requests / 20)
        system.assert_one_task_each(ids)
        assert await system.depth(names.parked_queue(names.REQUEST_QUEUE)) == 0
        for worker in replicas:
            assert worker.metric("dcs_worker_breaker_state") == 0
            assert worker.metric("dcs_worker_consumption_paused") == 0
            findings = [line["event"] for line in worker.log() if line["event"].startswith("breaker.")]
            assert findings[0] == "breaker.opened"
            assert findings[-1] == "breaker.closed"
        _assert_only_failed_calls_spent_places(replicas)
        return f"{how}: {asked} calls in {seconds:.0f} s of outage, first success {first:.1f} s after the return"


def _assert_only_failed_calls_spent_places(replicas: Sequence[WorkerProcess]) -> None:
    """Each place is the price of a failed call at least; waiting for the breaker costs none."""
    lines = [line for worker in replicas for line in worker.log() if "request_id" in line]
    failed = Counter(line["request_id"] for line in lines if line["event"] == "dcs.call_failed")
    for line in lines:
        if line["event"] in ("request.succeeded", "request.failed", "request.retried"):
            assert line["retry"] <= failed[line["request_id"]], line


def _assert_it_says_why(worker: WorkerProcess) -> None:
    """Page, metrics and log name the region, since when, and the next probe."""
    assert "cn-north-4: DCS has been failing for" in json.loads(worker.get("/readyz")[1])["conditions"]["paused"]
    assert worker.metric("dcs_worker_consumption_paused", 'reason="breaker"') == 1
    region = json.loads(worker.get("/readyz")[1])["regions"]["cn-north-4"]
    assert region["open_for"] >= 0
    assert 0 <= region["next_probe_in"] <= 15
    opened = next(line for line in worker.log() if line["event"] == "breaker.opened")
    assert (opened["region"], opened["level"]) == ("cn-north-4", "error")
    assert 0 < opened["retry_in_seconds"] <= 15


def _calls(replicas: Sequence[WorkerProcess]) -> int:
    """Calls so far, including those that did not reach the service."""
    return int(sum(worker.metric("dcs_worker_dcs_calls_total") for worker in replicas))


def _is_open(worker: WorkerProcess) -> bool:
    return worker.metric("dcs_worker_breaker_state") >= 1


@dataclass(frozen=True, slots=True)
class Limits:
    """A quota in calls per second, how long it lasts, and what is asked of two replicas. Durations in seconds."""

    calls: int = 100
    then: int | None = 30
    policy: str = "api"
    seconds: float = 60.0
    settled: float = 20.0
    followed: float = 15.0
    used: float = 0.85
    refused: float = 0.05


async def quota(url: str, folder: Path, limits: Limits = Limits()) -> str:
    """A quota that is not announced to two replicas; afterwards another one."""
    settings = {"limit": limits.calls, "policy": limits.policy}
    seconds = limits.seconds
    fake_dcs = FaultyDcs(latency=0.05, quota=settings)
    async with RunningSystem(url, folder, fake_dcs) as system:
        await fill(system, [f"quota-{number}" for number in range(int(limits.calls * (seconds * 2 + 20)))], DELAYS)
        replicas = await workers(system, 2, **DEFAULTS)
        await until(lambda: bool(fake_dcs.calls), 30, replicas[0].explain)
        started_at = fake_dcs.calls[0].at
        await asyncio.sleep(seconds)
        findings = [_share(fake_dcs.calls, started_at + limits.settled, started_at + seconds, limits.calls)]
        pages = [worker.get("/readyz")[1] for worker in replicas]
        assert any('"pace"' in page or '"throttled"' in page for page in pages), pages
        assert await system.depth(names.REQUEST_QUEUE) > 0, "there was nothing left to do"
        if limits.then is not None:
            changed = time.time()
            await fake_dcs.apply({"quota": settings | {"limit": limits.then}})
            await asyncio.sleep(seconds * 3 / 4)
            findings.append(_share(fake_dcs.calls, changed + limits.followed, changed + seconds * 3 / 4, limits.then))
        assert await system.depth(names.parked_queue(names.REQUEST_QUEUE)) == 0
        shares = [share for _, *share in findings]
        assert all(used >= limits.used and refused <= limits.refused for used, refused in shares), (findings, pages)
        return f"{limits.policy}: " + ", then ".join(words for words, *_ in findings)


def _share(calls: Sequence[CallRecord], begin: float, end: float, limit: int) -> tuple[str, float, float]:
    made = between(calls, begin, end)
    refused = sum(call.status == 429 for call in made)
    used, share = (len(made) - refused) / (end - begin) / limit, refused / max(1, len(made))
    return f"{used:.0%} of {limit} per second used, {share:.1%} of the calls refused", used, share


async def latency(
    url: str, folder: Path, *, seconds: float = 30.0, rate: int = 100, least: float = 0.5, deadline: float = 2.0
) -> str:
    """The service takes twice as long, and twice again: throughput follows, and hardly a call times out by our load."""
    slow, done, rates = 10 / rate, [], [rate, rate / 2, rate / 4]
    fake_dcs = FaultyDcs(latency=slow, capacity=10)
    async with RunningSystem(url, folder, fake_dcs) as system:
        settings = {"WORKER_DCS_TIMEOUT": deadline, "WORKER_SETTLE": deadline + 1, "WORKER_RECONCILE": "ambiguous"}
        replicas = await workers(system, 2, **settings)  # creates are counted
        await publish(system, [f"slow-{number}" for number in range(int(rate * 2 * seconds))])
        for doubled, possible in enumerate(rates):
            await fake_dcs.apply({"latency": slow * 2**doubled})
            await asyncio.sleep(seconds / 3)
            before, started_at = len(fake_dcs.tasks), time.monotonic()
            await asyncio.sleep(seconds * 2 / 3)
            done.append((len(fake_dcs.tasks) - before) / (time.monotonic() - started_at))
            assert done[-1] >= possible * least, done
        late = sum(worker.metric("dcs_worker_dcs_calls_total", 'status="timeout"') for worker in replicas)
        assert late <= 0.02 * _calls(replicas), late
        reached, possible_rates = (", ".join(f"{rate:.0f}" for rate in some) for some in (done, rates))
        return f"{reached} per second of {possible_rates}; {late:.0f} time-outs in {_calls(replicas)} calls"


async def random_refusals(urls: Callable[[], str], folder: Path, *, seconds: float = 20.0, share: float = 0.1) -> str:
    """The service refuses every tenth create at random, and names no limit: the others go on."""
    made = []
    for chance in (0.0, share):
        place = folder / f"{chance:g}"
        place.mkdir()
        fake_dcs = FaultyDcs(latency=0.2, faults={BUSY: chance} if chance else {})
        async with RunningSystem(urls(), place, fake_dcs) as system:
            await workers(system, 1, **DEFAULTS)
            await publish(system, [f"random-{chance:g}-{number}" for number in range(int(600 * seconds))])
            await asyncio.sleep(seconds / 4)
            before, started_at = len(fake_dcs.tasks), time.monotonic()
            await asyncio.sleep(seconds)
            made.append((len(fake_dcs.tasks) - before) / (time.monotonic() - started_at))
            left = await system.depth(names.REQUEST_QUEUE)
            assert left > 0, f"nothing was left to do after {len(fake_dcs.tasks)} tasks, {made}"
    assert made[1] >= made[0] * 0.6, made
    return f"{made[1]:.0f} tasks per second with refusals, {made[0]:.0f} without"


async def tenants(
    urls: Callable[[], str], folder: Path, *, crowd: int = 5000, each: int = 20, slow: float = 0.5, slack: float = 0.0
) -> str:
    """One throttled project with thousands of requests, and nine others behind them: these hardly notice."""
    alone = await _nine(urls(), folder / "alone", 0, each, slow)
    crowded = await _nine(urls(), folder / "crowded", crowd, each, slow)
    assert crowded <= 3 * alone + slack, (alone, crowded)
    behind = f"{crowded:.1f} s behind {crowd} of a throttled one"
    return f"nine projects with {each} requests each: {alone:.1f} s alone, {behind}"


async def _nine(url: str, folder: Path, crowd: int, each: int, slow: float) -> float:
    folder.mkdir()
    quotas = {CROWD: {"limit": 5}}
    fake_dcs = FaultyDcs(latency=slow, project_quotas=quotas)
    async with RunningSystem(url, folder, fake_dcs) as system:
        (worker,) = await workers(system, 1, **DEFAULTS)
        others = [f"o{project}-{number}" for project in range(9) for number in range(each)]
        first_published_at = time.monotonic()
        await publish(system, [f"crowd-{number}" for number in range(crowd)], project_id=CROWD)
        behind = time.monotonic()
        for project in range(9):
            await publish(system, others[project * each : (project + 1) * each], project_id=f"other{project}")
        # In a crowd they come behind it, wherever in the queue it is by now.
        started_at = behind if crowd else first_published_at
        task_names = set(others)
        await until(lambda: task_names <= system.by_request().keys(), 60, worker.explain)
        took = time.monotonic() - started_at
        if crowd:
            assert '"throttled": 1' in worker.get("/readyz")[1]
            assert worker.metric("dcs_worker_deliveries_settled_total", 'reason="throttled"') > crowd / 2
            assert await system.depth(names.parked_queue(names.REQUEST_QUEUE)) == 0
        return took


async def memory(url: str, folder: Path, *, requests: int = 100_000, seconds: float = 20.0) -> str:
    """However much waits in the queue, little of it is in the worker."""
    async with RunningSystem(url, folder, FaultyDcs(latency=0.2)) as system:
        (worker,) = await workers(system, 1)
        await publish(system, [f"many-{number}" for number in range(requests)])
        await asyncio.sleep(seconds)
        assert await system.depth(names.REQUEST_QUEUE) > requests / 3
        status = Path(f"/proc/{worker.pid}/status").read_text()
        most = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
        assert most < 120 * MEGABYTE, most
        return f"{requests} messages waiting, {most / MEGABYTE:.0f} MB at most"


def main() -> None:
    """Run the long forms from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LONG)}; by default all")
    chosen = parser.parse_args().names or list(LONG)
    failed = False
    for name in chosen:
        with RabbitMqServer() as node, tempfile.TemporaryDirectory() as folder:
            try:
                sys.stdout.write(f"{name}: {asyncio.run(_play(LONG[name](node, Path(folder))))}\n")
            except AssertionError as error:
                failed = True
                sys.stdout.write(f"{name}: FAILED: {error}\n")
    sys.exit(failed)


async def _play(storm: Awaitable[str]) -> str:
    return await storm


def _fresh(node: RabbitMqServer) -> Callable[[], str]:
    """URLs of unused vhosts."""
    numbers = iter(range(100))

    def url() -> str:
        name = f"flow-{next(numbers)}"
        node.run_ctl("add_vhost", name)
        node.run_ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return node.vhost_url(name)

    return url


LONG: dict[str, Callable[[RabbitMqServer, Path], Awaitable[str]]] = {
    "outage": lambda node, folder: outage(node.url, folder),
    "outage-refuse": lambda node, folder: outage(node.url, folder, how="refuse"),
    "outage-hang": lambda node, folder: outage(node.url, folder, how="hang"),
    "quota": lambda node, folder: quota(node.url, folder),
    "quota-of-project": lambda node, folder: quota(node.url, folder, Limits(policy="user", then=None)),
    "random-refusals": lambda node, folder: random_refusals(_fresh(node), folder),
    "latency": lambda node, folder: latency(node.url, folder),
    "tenants": lambda node, folder: tenants(_fresh(node), folder),
    "memory": lambda node, folder: memory(node.url, folder),
}


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
