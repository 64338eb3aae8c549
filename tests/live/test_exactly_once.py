"""One task per request, when processes are killed or frozen and requests are sent twice."""

import asyncio
import random
import signal
from pathlib import Path

import pytest

from schemas.request import Request
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer, RedisServer
from tests.live.redis_replicas import operator
from tests.live.test_claims_records import FINGERPRINT, ODD_HASHES
from tools.harness.running_system import RunningSystem, request, until
from tools.storms.kill_storm import Storm, run
from worker.claims.scripts import record_key
from worker.policy.migration_request import migration as ordered


@pytest.mark.timeout(180)
async def test_worker_kills_and_faults_create_one_task_per_request(own_rabbit: RabbitMqServer, tmp_path: Path) -> None:
    """Workers and the broker killed at random: every request is answered, with one task and one event id."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - to replay a failure
    await run(Storm(seed=seed), own_rabbit, tmp_path)


@pytest.mark.timeout(120)
async def test_frozen_worker_creates_one_task_per_request(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """SIGSTOP beyond the broker's timeout, another worker takes over, SIGCONT: no second task."""
    fake_dcs = FaultyDcs(latency=0.4)
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        frozen = system.worker(WORKER_PREFETCH=8, WORKER_TRIES=3)
        await frozen.ready()
        task_names = [f"frozen-{number}" for number in range(24)]
        scripts = {name: ["error 400 DCS.4026", "ok"] for name in task_names[::2]}
        await system.fake_dcs.apply({"scripts": scripts})
        for name in task_names:
            await system.publish(request(name, request_id=name))
        await until(lambda: frozen.metric("dcs_worker_in_flight_requests") == 8, 10, frozen.explain)
        frozen.process.send_signal(signal.SIGSTOP)
        # What the broker does after two missed heartbeats, sooner: the frozen worker's messages go to the other one.
        await rabbit.ctl("close_all_connections", "--vhost", vhost.rpartition("/")[2], "silent for too long")
        other = system.worker(WORKER_PREFETCH=8)
        await other.ready()
        await system.answered(24, 60)
        await asyncio.sleep(6)  # longer than a process may stand still unnoticed
        frozen.process.send_signal(signal.SIGCONT)
        await frozen.ready()
        await asyncio.sleep(2)
        system.assert_one_task_each(task_names)
        assert frozen.process.poll() is None


@pytest.mark.timeout(120)
async def test_poison_request_is_parked_and_others_succeed(vhost: str, tmp_path: Path) -> None:
    """A request that kills its worker is parked after the limit; all others in the prefetch window succeed."""
    async with RunningSystem(vhost, tmp_path, FaultyDcs(scripts={"poison": ["hang"]})) as system:
        task_names = [f"good-{number}" for number in range(20)]
        settings = {"WORKER_DELIVERY_LIMIT": 4, "WORKER_RETRY_DELAYS": "0.5,4", "WORKER_PREFETCH": 16}
        worker = system.worker(**settings)
        await worker.ready()
        for name in [*task_names[:10], "poison", *task_names[10:]]:
            await system.publish(request(name, request_id=name))
        crashes = 0
        end = asyncio.get_running_loop().time() + 90
        while "poison" not in system.by_request() or len(system.by_request()) < 21:
            assert asyncio.get_running_loop().time() < end, worker.explain()
            posted = [call for call in system.fake_dcs.calls if call.operation == "create" and call.name == "poison"]
            if len(posted) > crashes:
                crashes = len(posted)
                worker.process.kill()
                worker.process.wait()
                worker = system.worker(**settings)
            await asyncio.sleep(0.005)
        events = system.by_request()
        assert events["poison"][0].body["reason"] == "poison"
        assert all(events[name][0].key == "migration.succeeded" for name in task_names)
        assert len([task for task in system.fake_dcs.tasks if task.name != "poison"]) == 20


@pytest.mark.timeout(180)
async def test_copies_at_two_replicas_create_one_task_with_claims(
    vhost: str, redis_node: RedisServer, tmp_path: Path
) -> None:
    """Each request sent four times at once to two replicas: one task, one event id."""
    async with RunningSystem(vhost, tmp_path, FaultyDcs(latency=0.1)) as system:
        for _ in range(2):
            worker = system.worker(WORKER_CLAIMS_URL=redis_node.url, WORKER_PREFETCH=8)
            await worker.ready()
        task_names = [f"copies-{number}" for number in range(50)]
        for name in task_names:
            migration = request(name, request_id=name)
            await asyncio.gather(*(system.publish(migration) for _ in range(4)))
        await until(lambda: len(system.events) >= 200, 60, worker.explain)
        system.assert_one_task_each(task_names)


@pytest.mark.timeout(120)
async def test_foreign_redis_records_delay_no_request(vhost: str, redis_node: RedisServer, tmp_path: Path) -> None:
    """Each of their requests is looked up, created once and answered at once; counted and logged once; no pause."""
    task_names = [f"odd-{number}" for number in range(len(ODD_HASHES))]
    async with RunningSystem(vhost, tmp_path, FaultyDcs()) as system, operator(redis_node) as client:
        worker = system.worker(WORKER_CLAIMS_URL=redis_node.url, WORKER_SETTLE=30, WORKER_RETRY_DELAYS="1,60")
        await worker.ready()
        for name, fields in zip(task_names, ODD_HASHES.values(), strict=True):
            of = ordered(Request.model_validate(request(name, request_id=name)), default_region="", with_marker=True)
            record = {field: of.fingerprint if value == FINGERPRINT else value for field, value in fields.items()}
            await client.hset(record_key(of), mapping=record)
        for name in [*task_names, "even"]:
            await system.publish(request(name, request_id=name))
        await until(lambda: len(system.events) >= len(task_names) + 1, 20, worker.explain)
        system.assert_one_task_each([*task_names, "even"])
        assert worker.metric("dcs_worker_claims_records_doubted_total") == len(task_names)
        doubted = [line["request_id"] for line in worker.log() if line["event"] == "claims.record_doubted"]
        assert sorted(doubted) == sorted(task_names)
        lost = ("redis.unavailable", "broker.disconnected", "request.defect")
        assert not [line for line in worker.log() if line["event"] in lost]
