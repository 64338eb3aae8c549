"""Metrics of a real worker: what waits in its queues and in flight, and how old requests are when they end."""

import json
import time
from pathlib import Path

import aio_pika
import pytest
from pamqp.commands import Basic

from schemas import names
from tools.harness.running_system import RunningSystem, request, until
from worker.cli.doctor.network import check_port
from worker.policy.diagnostics import CheckResult
from worker.rabbit.connection import Brokers, connected, open_channel

AGE = "dcs_worker_request_age_seconds"
FINISHED = "dcs_worker_requests_finished_total"
MARKER = "dcs_worker_marker_kept"
QUEUE = "dcs_worker_queue_messages"
PARKED = names.parked_queue(names.REQUEST_QUEUE)


@pytest.mark.timeout(120)
async def test_waiting_messages_are_counted(vhost: str, tmp_path: Path) -> None:
    """Backlog, parked requests and their time; what is not known yet is absent."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"latency": 60.0})
        worker = system.worker(WORKER_PREFETCH=1)
        await worker.ready()
        await until(lambda: worker.metric(QUEUE) == 0 and f'{QUEUE}{{queue="parked"}}' in worker.get("/metrics")[1], 20)
        assert "\ndcs_worker_oldest_request_age_seconds " not in worker.get("/metrics")[1]
        assert "\ndcs_worker_parked_since_seconds 0.0" in worker.get("/metrics")[1]

        for name in "abc":
            await system.publish(request(name, request_id=name))
        await until(lambda: worker.metric(QUEUE, 'queue="requests"') == 2, 20, worker.explain)
        first = worker.metric("dcs_worker_oldest_request_age_seconds")
        await until(lambda: worker.metric("dcs_worker_oldest_request_age_seconds") > first + 1, 20, worker.explain)

        async with await aio_pika.connect(vhost) as connection:
            channel = await connection.channel()
            await channel.default_exchange.publish(aio_pika.Message(b"{}", delivery_mode=2), PARKED)
            await until(lambda: worker.metric(QUEUE, 'queue="parked"') == 1, 20, worker.explain)
            await until(lambda: worker.metric("dcs_worker_parked_since_seconds") > 1, 20, worker.explain)
            await (await channel.get_queue(PARKED)).purge()
        await until(lambda: worker.metric("dcs_worker_parked_since_seconds") == 0, 20, worker.explain)
        worker.process.kill()


async def test_age_counts_from_when_sender_published(vhost: str, tmp_path: Path) -> None:
    """In seconds or in milliseconds; a time in the future does not count. A repeat ends no request."""
    now = time.time()
    times = {"seconds": int(now - 300), "milliseconds": int((now - 3000) * 1000), "future": int(now + 3600)}
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        ages: dict[str, float] = {}
        async with connected(Brokers((vhost,)), 0, "test") as connection, open_channel(connection) as channel:
            for name, timestamp in times.items():
                before = worker.metric(f"{AGE}_sum"), worker.metric(f"{AGE}_count")
                body = json.dumps(request(name, request_id=name)).encode()
                properties = Basic.Properties(delivery_mode=2, timestamp=timestamp)  # type: ignore[arg-type]  # as a number
                await channel.basic_publish(body, routing_key=names.REQUEST_QUEUE, properties=properties)
                await until(lambda: worker.metric(f"{AGE}_count") == before[1] + 1, 20, worker.explain)  # noqa: B023
                ages[name] = worker.metric(f"{AGE}_sum") - before[0]
        assert 300 <= ages["seconds"] < 400
        assert 3000 <= ages["milliseconds"] < 3100
        assert 0 <= ages["future"] < 100

        await system.publish(request("seconds", request_id="seconds"))
        settled = "dcs_worker_deliveries_settled_total"
        await until(lambda: worker.metric(settled, 'outcome="succeeded"') == len(times) + 1, 20, worker.explain)
        assert worker.metric(FINISHED, 'outcome="succeeded"') == worker.metric(f"{AGE}_count") == len(times)
        assert worker.metric("dcs_worker_dcs_calls_total", 'region="cn-north-4"', 'operation="create"') == len(times)


@pytest.mark.timeout(60)
async def test_marker_that_dcs_cuts_is_reported(vhost: str, tmp_path: Path) -> None:
    """By one call after the listing delay: in metric, log, health, page and by `doctor`."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"description_bytes": 40})
        worker = system.worker(WORKER_SETTLE=2, WORKER_DCS_TIMEOUT=1)
        await worker.ready()
        assert f"\n{MARKER}{{" not in worker.get("/metrics")[1]
        for name in "ab":
            await system.publish(request(name))
        await until(lambda: f"\n{MARKER}{{" in worker.get("/metrics")[1], 20, worker.explain)
        state = "lost: 40 of 59 characters are listed"
        assert worker.metric(MARKER, 'region="cn-north-4"') == 0
        assert json.loads(worker.get("/readyz")[1])["regions"]["cn-north-4"]["marker"] == state
        assert state in worker.get("/")[1]
        (line,) = (line for line in worker.log() if line["event"] == "marker.lost")
        assert line["instance_id"] in {event.body["instance_id"] for event in system.events}
        _, check = await check_port("127.0.0.1", worker.http_port)
        assert (check.result, check.found) == (CheckResult.WARNING, state)
        assert sorted(call.operation for call in system.fake_dcs.calls) == ["create"] * 2 + ["list"] * 3
