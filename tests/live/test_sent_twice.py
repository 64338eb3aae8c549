"""Requests that are sent twice: one task each, with and without claims, and under `pause` while Redis is away."""

import asyncio
import json
import signal
from functools import partial
from pathlib import Path

import pytest

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RedisServer
from tests.live.test_claims_faults import relay_to
from tools.harness.parked_queue import CommandLine, settings
from tools.harness.running_system import RunningSystem, WorkerProcess, request, until

CONSUMPTION_STOPS_SECONDS = 5.0


def doing(worker: WorkerProcess) -> str:
    """`paused`, or `consuming` as soon as the pause is over; empty while `/readyz` is not 200."""
    status, text = worker.get("/readyz")
    if status != 200:
        return ""
    return (
        "consuming" if json.loads(text)["conditions"].get("paused", "Recovering").startswith("Recovering") else "paused"
    )


async def until_doing(worker: WorkerProcess, word: str, seconds: float = 20) -> None:
    """Wait until the worker says so."""
    await until(lambda: doing(worker) == word, seconds, worker.explain)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("has_claims", [False, True])
async def test_file_submitted_twice_creates_each_task_once(
    vhost: str, redis_node: RedisServer, tmp_path: Path, has_claims: bool
) -> None:
    """A submit is interrupted and repeated, the worker is killed, and all is sent once more to a new one."""
    claims = {"WORKER_CLAIMS_URL": redis_node.url} if has_claims else {}
    async with RunningSystem(vhost, tmp_path, FaultyDcs(latency=0.1)) as system:
        worker = system.worker(**claims)
        await worker.ready()
        task_names = [f"twice-{number}" for number in range(150)]
        lines = b"".join(json.dumps(request(name, request_id=name)).encode() + b"\n" for name in task_names)
        (tmp_path / "requests.jsonl").write_bytes(lines)
        command_line = CommandLine(settings(system.amqp_url, tmp_path, system.fake_dcs.url), tmp_path)
        submitting = asyncio.create_task(command_line.run("submit", "requests.jsonl", "--wait"))
        await until(lambda: len(system.fake_dcs.tasks) > 20, 60, worker.explain)
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        assert len(system.fake_dcs.tasks) < len(task_names), "killed too late"
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        await system.worker(**claims).ready()
        done = await command_line.run("submit", "requests.jsonl", "--wait")
        assert done.status == 0, done.errors
        system.assert_one_task_each(task_names)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("cut_off", [1, 2], ids=["one replica cut off", "Redis back for one before the other"])
async def test_three_copies_at_once_create_one_task_under_pause(
    vhost: str, redis_node: RedisServer, tmp_path: Path, cut_off: int
) -> None:
    """A replica without Redis stops within seconds; what it handed back is created elsewhere or later."""
    async with (
        relay_to(redis_node) as one,
        relay_to(redis_node) as other,
        RunningSystem(vhost, tmp_path, FaultyDcs(latency=0.1)) as system,
    ):
        relays = (one, other)
        workers = [
            system.worker(WORKER_CLAIMS_URL=relay.url, WORKER_CLAIMS_AWAY="pause", WORKER_PREFETCH=8)
            for relay in relays
        ]
        for worker in workers:
            await worker.ready()
            await until_doing(worker, "consuming")
        task_names = [f"copies-{number}" for number in range(60)]

        async def publish(some: list[str]) -> None:
            for name in some:
                await asyncio.gather(*(system.publish(request(name, request_id=name)) for _ in range(3)))

        publishing = asyncio.create_task(publish(task_names[:40]))
        await until(lambda: len(system.fake_dcs.tasks) > 10, 30, workers[0].explain)
        for relay in relays[:cut_off]:
            relay.swallows = True
        for worker in workers[:cut_off]:
            await until_doing(worker, "paused", CONSUMPTION_STOPS_SECONDS)
            assert worker.metric("dcs_worker_consumption_paused", 'reason="claims"') == 1
            in_flight = partial(worker.metric, "dcs_worker_in_flight_requests")
            await until(lambda in_flight=in_flight: in_flight() == 0, 20, worker.explain)  # type: ignore[misc]
        await publishing
        if cut_off == 2:
            created = len(system.fake_dcs.tasks)
            await asyncio.sleep(1)
            assert len(system.fake_dcs.tasks) == created, "created without a claim"
        for relay, worker in zip(relays[:cut_off], workers, strict=False):
            relay.swallows = False
            await until_doing(worker, "consuming")
        await publish(task_names[40:])
        await system.answered(len(task_names), 120)
        await until(lambda: len(system.events) >= 3 * len(task_names), 120, workers[0].explain)
        system.assert_one_task_each(task_names)


async def test_requests_that_wait_for_a_permit_are_handed_back_under_pause(
    vhost: str, redis_node: RedisServer, tmp_path: Path
) -> None:
    """Within seconds after Redis went away, though a rate of one call in two seconds lets them wait for a minute."""
    async with relay_to(redis_node) as relay, RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(WORKER_CLAIMS_URL=relay.url, WORKER_CLAIMS_AWAY="pause", WORKER_DCS_RATE=0.5)
        await worker.ready()
        for number in range(40):
            await system.publish(request(f"waits-{number}", request_id=f"waits-{number}"))
        await until(lambda: worker.metric("dcs_worker_in_flight_requests") > 30, 10, worker.explain)
        relay.swallows = True
        await until_doing(worker, "paused", CONSUMPTION_STOPS_SECONDS)
        await until(
            lambda: worker.metric("dcs_worker_in_flight_requests") == 0, CONSUMPTION_STOPS_SECONDS, worker.explain
        )
        assert await system.depth(names.REQUEST_QUEUE) > 30


async def test_mode_and_its_cost_are_said_at_start_and_on_the_page(vhost: str, tmp_path: Path) -> None:
    """The log's first lines, `/readyz` and the status page: one GET per create."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        (mode,) = [line for line in worker.log() if line["event"] == "worker.ready"]
        assert (mode["port"], mode["credentials"]) == (worker.http_port, "token")
        readiness = json.loads(worker.get("/readyz")[1])
        for found in (mode["lookups"], readiness["lookups"], worker.get("/")[1]):
            assert "always: look-up before every create, which costs one GET per create" in found
        assert (mode["claims"], readiness["claims"]) == ("none", "none")
        await system.publish(request("one", request_id="one"))
        await system.answered(1)
        assert [call.operation for call in system.fake_dcs.calls] == ["list", "create"]


async def test_credentials_that_may_not_list_are_named(vhost: str, tmp_path: Path) -> None:
    """The request ends as `forbidden` ; the event names the right and the setting, and nothing was created."""
    async with RunningSystem(vhost, tmp_path, FaultyDcs(forbidden=["list"])) as system:
        worker = system.worker()
        await worker.ready()
        await system.publish(request("one", request_id="one"))
        (event,) = (await system.answered(1))["one"]
        assert (event.body["reason"], event.body["parked"], event.body["attempts"]) == ("forbidden", True, 0)
        assert "grant the right dcs:migrationTask:list, or set WORKER_RECONCILE=ambiguous" in event.body["message"]
        assert not [call for call in system.fake_dcs.calls if call.operation == "create"]
