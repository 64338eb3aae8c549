"""Copies on a real broker that does not take them: no request is lost, none is answered twice, and the others flow."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from schemas import names
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, machine_load_factor, request, until

REFUSE = json.dumps({"max-length": 0, "overflow": "reject-publish"})
BUSY = "error 400 DCS.4026"
CURE_SECONDS = 30.0


@pytest.mark.timeout(180)
async def test_retry_queues_that_refuse_pause_consumption(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """`/readyz` names the queue; 30 s after the policy is gone everything is answered, by itself."""
    early, busy, good = ([f"{name}-{number}" for number in range(10)] for name in ("early", "busy", "good"))
    policy = ("-p", vhost.rpartition("/")[2], "cap")
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {name: [BUSY, "ok"] for name in early + busy}})
        worker = system.worker(WORKER_TRIES=1, WORKER_PREFETCH=8, WORKER_RETRY_DELAYS="20")
        await worker.ready()
        for name in early:  # so that the queue is longer than the policy allows
            await system.publish(request(name, request_id=name))
        retried = 'outcome="retried"'
        await until(lambda: worker.metric("dcs_worker_deliveries_settled_total", retried) == len(early), 10)
        await rabbit.ctl("set_policy", *policy, r"\.retry\.", REFUSE)
        for name in busy + good:
            await system.publish(request(name, request_id=name))
        await until(lambda: "refuse copies" in worker.get("/readyz")[1], 30, worker.explain)
        status, page = worker.get("/readyz")
        assert (status, f"{names.REQUEST_QUEUE}.retry.20s" in page) == (200, True)
        assert worker.metric("dcs_worker_consumption_paused", 'reason="queues"') == 1
        assert await system.depth(names.REQUEST_QUEUE) > 0

        await rabbit.ctl("clear_policy", *policy)
        cured_at = time.monotonic()
        await until(lambda: set(good) <= set(system.by_request()), CURE_SECONDS, worker.explain)
        assert time.monotonic() - cured_at < CURE_SECONDS * machine_load_factor()  # `until` waits longer
        await system.answered(len(early + busy + good), 40)
        system.assert_one_task_each(early + busy + good)
        assert worker.metric("dcs_worker_consumption_paused", 'reason="queues"') == 0
        assert not [line for line in worker.log() if line["event"] == "broker.disconnected"], worker.explain()


async def test_queue_that_refuses_leads_to_next_level(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """Without a pause."""
    busy = [f"busy-{number}" for number in range(20)]
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {name: [BUSY, "ok"] for name in busy}})
        worker = system.worker(WORKER_TRIES=1, WORKER_PREFETCH=8)
        await worker.ready()
        await rabbit.ctl("set_policy", "-p", vhost.rpartition("/")[2], "cap", r"\.retry\.1s$", REFUSE)
        for name in busy:
            await system.publish(request(name, request_id=name))
        await system.answered(len(busy), 30)
        system.assert_one_task_each(busy)
        assert not [line for line in worker.log() if "queues" in line.get("reasons", [])]


@pytest.mark.timeout(180)
async def test_copy_larger_than_frame_loses_largest_headers(tmp_path: Path) -> None:
    """A broker with small frames closes the connection for it, so it is not sent at all."""
    with RabbitMqServer(config=["frame_max = 8192"]) as node:
        async with RunningSystem(node.url, tmp_path) as system:
            await system.fake_dcs.apply({"scripts": {"large": [BUSY, "ok"]}})
            worker = system.worker(WORKER_TRIES=1)
            await worker.ready()
            headers = {"x-large": "x" * 7000, "x-small": "kept"}
            await system.publish(request("large", request_id="large"), headers=headers)
            await system.answered(1, 30)
            system.assert_one_task_each(["large"])
            assert not [line for line in worker.log() if line["event"] == "broker.disconnected"], worker.explain()


@pytest.mark.timeout(180)
async def test_message_that_cannot_be_copied_is_parked_as_poison(own_rabbit: RabbitMqServer, tmp_path: Path) -> None:
    """One event, one parked message, by the broker's own hand; its neighbours are answered."""
    async with RunningSystem(own_rabbit.url, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"uncopyable": [BUSY]}})
        declaring = system.worker()
        await declaring.ready()
        declaring.process.kill()
        await declaring.ended()
        body = json.dumps(request("uncopyable", request_id="uncopyable")).encode()
        await system.publish(body + b" " * 4000)
        # For new channels; from 4.0 on the broker reads the setting from there.
        set_limit = "application:set_env(rabbit, max_message_size, 2500), persistent_term:put(max_message_size, 2500)."
        await own_rabbit.ctl("eval", set_limit)
        worker = system.worker(WORKER_TRIES=1)
        good = [f"good-{number}" for number in range(5)]
        for name in good:
            await system.publish(request(name, request_id=name))
        await system.answered(1 + len(good), 60)
        await until(lambda: worker.metric("dcs_worker_in_flight_requests") == 0, 20, worker.explain)
        events = system.by_request()
        assert {name: [event.body.get("reason") for event in found] for name, found in events.items()} == {
            "uncopyable": ["poison"],
            **{name: [None] for name in good},
        }
        async with asyncio.timeout(20):
            while await system.depth(names.parked_queue(names.REQUEST_QUEUE)) != 1:
                await asyncio.sleep(0.1)
        assert await system.depth(names.REQUEST_QUEUE) == 0
        assert worker.process.poll() is None
