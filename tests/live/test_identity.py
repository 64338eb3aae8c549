"""A real worker that proves who it is: by signature, by tokens of IAM; and what it never says."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.fakes.faulty_dcs import FaultyDcs
from tools.harness.running_system import RunningSystem, WorkerProcess, request, until

KEYS = {"WORKER_AUTH_TOKEN": None, "WORKER_ACCESS_KEY": "STANDINACCESSKEY0001"}
SECRET_KEY = "stand-in-secret-key-of-forty-characters0"
PASSWORD = "stand-in-password"


def _account(system: RunningSystem) -> dict[str, object]:
    return {
        "WORKER_AUTH_TOKEN": None,
        "WORKER_IAM_ENDPOINT": system.fake_dcs.url,
        "WORKER_IAM_USER": "stand-in-user",
        "WORKER_IAM_DOMAIN": "stand-in-domain",
        "WORKER_IAM_PASSWORD": None,
    }


def _fake_dcs(mode: str, **auth: object) -> FaultyDcs:
    return FaultyDcs(auth={"mode": mode, **auth}, latency=0.02)


def _assert_silent(system: RunningSystem, worker: WorkerProcess, secrets: tuple[str, ...]) -> None:
    """No secret in any log, event, metric or page, nor any token that the fake DCS issued."""
    output = [worker.log_path.read_text(), *(worker.get(page)[1] for page in ("/", "/metrics", "/readyz", "/livez"))]
    output += [json.dumps(event.body) + str(event.headers) for event in system.events]
    for secret in secrets:
        assert all(secret not in text for text in output)


def _token_calls(system: RunningSystem) -> int:
    return sum(call.operation == "token" for call in system.fake_dcs.calls)


async def test_signed_requests_with_special_names_succeed(vhost: str, tmp_path: Path) -> None:
    """AK/SK, verified by the fake DCS's own implementation: creates, and look-ups of names with every kind of sign."""
    async with RunningSystem(vhost, tmp_path, _fake_dcs("aksk")) as system:
        worker = system.worker(**KEYS, WORKER_SECRET_KEY=SECRET_KEY, WORKER_LOG_LEVEL="debug")
        await worker.ready()
        task_names = ["plain", "with blank", "a/b?c=d&e", "ünïcödé-测试", "100%_~(x)!*'", "+plus"]
        await system.fake_dcs.apply({"scripts": {name: ["create then drop"] for name in task_names}})
        for name in task_names:
            await system.publish(request(name, request_id=f"r{task_names.index(name)}"))
        events = await system.answered(len(task_names), 30)
        assert {event[0].body["resolution"] for event in events.values()} == {"adopted"}
        system.assert_one_task_each(task_names)
        _assert_silent(system, worker, (SECRET_KEY, "STANDINACCESSKEY0001"))


@pytest.mark.timeout(120)
async def test_expiring_tokens_fail_none_of_500_requests(vhost: str, tmp_path: Path) -> None:
    """No failure, and at most one token call per project and expiry."""
    async with RunningSystem(vhost, tmp_path, _fake_dcs("iam", token_seconds=4)) as system:
        worker = system.worker(**_account(system) | {"WORKER_IAM_PASSWORD": PASSWORD}, WORKER_PREFETCH=8)
        await worker.ready()
        started = time.monotonic()
        task_names = [f"token-{number}" for number in range(500)]
        for name in task_names:
            await system.publish(request(name, request_id=name))
            await asyncio.sleep(0.01)
        events = await system.answered(500)
        lives = (time.monotonic() - started) / (4 * 0.9) + 1
        assert {answers[0].key for answers in events.values()} == {"migration.succeeded"}
        system.assert_one_task_each(task_names)
        assert 2 <= _token_calls(system) <= lives + 1
        assert worker.metric("dcs_worker_deliveries_settled_total", 'outcome="retried"') == 0
        _assert_silent(system, worker, (PASSWORD,))


@pytest.mark.timeout(150)
async def test_changed_password_pauses_and_resumes(vhost: str, tmp_path: Path) -> None:
    """Few token calls, readiness names the reason, nothing is parked; the right secret file is enough."""
    async with RunningSystem(vhost, tmp_path, _fake_dcs("iam", token_seconds=2)) as system:
        secret = tmp_path / "worker_iam_password"
        secret.write_text(PASSWORD)
        worker = system.worker(**_account(system), WORKER_PREFETCH=8)
        await worker.ready()
        await system.publish(request("before", request_id="before"))
        await system.answered(1)
        await system.fake_dcs.apply({"auth": {"password": "another-password"}})
        before = _token_calls(system)
        task_names = ["before", *(f"waiting-{number}" for number in range(40))]
        for name in task_names[1:]:
            await system.publish(request(name, request_id=name))
            await asyncio.sleep(0.1)
        await until(lambda: "credentials" in worker.get("/readyz")[1], 15, worker.explain)
        assert json.loads(worker.get("/readyz")[1])["status"] == "failing"
        assert _token_calls(system) - before <= 3
        secret.write_text("another-password")
        await system.answered(len(task_names), 60)
        assert {answers[0].key for answers in system.by_request().values()} == {"migration.succeeded"}
        system.assert_one_task_each(task_names)
        await until(lambda: "failing" not in json.loads(worker.get("/readyz")[1])["conditions"], 45, worker.explain)
        _assert_silent(system, worker, (PASSWORD, "another-password"))
