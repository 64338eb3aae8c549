"""Answers of the real cloud, each given to real workers: what becomes of the requests, and how many calls it costs.

The answers are the named faults of the fake DCS, whose sources are in docs/errors.md.
"""

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from schemas.event import FAILED_KEY, SUCCEEDED_KEY
from tests.fakes.faulty_dcs import FaultyDcs
from tools.harness.parked_queue import PARKED, CommandLine, settings
from tools.harness.running_system import RunningSystem, WorkerProcess, machine_load_factor, request, until
from worker.tools.fake_dcs.platform import WAYS

QUIET_SECONDS = 1.5
"""For which the calls of a hold are counted."""
HEALTH_SECONDS = 15.0
SETTINGS = {"WORKER_RETRY_DELAYS": "0.5,3.5"}
REFUSED_KEYS = {
    "stale signature": "the clock of this machine is 16 min behind",
    "locked key": "AK access failed to reach the limit",
    "unknown key": "temporary keys also need WORKER_SECURITY_TOKEN",
}
"""Named fault, and what health says of it."""


def rotate_keys(folder: Path, number: int) -> dict[str, str]:
    """Put a new access key into the secret files; the settings of a fake DCS that accepts it."""
    keys = {"access_key": f"STANDINACCESSKEY000{number}", "secret_key": f"secret-key-{number}"}
    for name, text in keys.items():
        new = folder / f".{name}"
        new.write_text(text)
        new.rename(folder / f"worker_{name}")
    return keys


def health(worker: WorkerProcess) -> str:
    """The sentence of `/readyz`."""
    return str(json.loads(worker.get("/readyz")[1] or "{}").get("reason"))


def all_say(workers: Sequence[WorkerProcess], words: str) -> bool:
    """Whether the sentence of each has these words."""
    return all(words in health(worker) for worker in workers)


async def publish_all(system: RunningSystem, count: int) -> list[str]:
    """Publish so many requests in five projects; their names."""
    task_names = [f"r{number}" for number in range(count)]
    bodies = [request(name, name, project_id=f"p{name[-1]}") for name in task_names]
    for first in range(0, count, 100):
        await asyncio.gather(*map(system.publish, bodies[first : first + 100]))
    return task_names


async def test_refused_keys_cost_few_calls_and_no_request(vhost: str, tmp_path: Path) -> None:
    """A stale signature, a locked key, a key of another cloud: a call and a probe of each worker at most, then silence.

    Requests of five projects wait, health says why, no log shows a key, and all flow with a key that is accepted.
    """
    fake_dcs = FaultyDcs(auth={"mode": "aksk", **rotate_keys(tmp_path, 0)}, faults={"stale signature": 1})
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        workers = [system.worker(WORKER_AUTH_TOKEN=None, **SETTINGS) for _ in range(2)]
        await asyncio.gather(*(worker.ready() for worker in workers))
        task_names = await publish_all(system, 30)
        for number, (fault, words) in enumerate(REFUSED_KEYS.items()):
            before = len(fake_dcs.calls)
            if number:
                faults = {**dict.fromkeys(REFUSED_KEYS), fault: 1}
                await fake_dcs.apply(faults=faults, auth=rotate_keys(tmp_path, number))
            await until(partial(all_say, workers, words), HEALTH_SECONDS, workers[0].explain)
            await asyncio.sleep(QUIET_SECONDS)
            assert len(fake_dcs.calls) - before <= 2 * len(workers), fault
        assert system.events == []
        await fake_dcs.apply(faults=dict.fromkeys(REFUSED_KEYS), auth=rotate_keys(tmp_path, len(REFUSED_KEYS)))
        await system.answered(len(task_names))
        system.assert_one_task_each(task_names)
        assert {event.key for event in system.events} == {SUCCEEDED_KEY}
        said = "".join(worker.log_path.read_text() + worker.get("/readyz")[1] for worker in workers)
        assert "STANDINACCESSKEY" not in said


SCRIPTS = {
    # Ten writes per window, refused tries count; at the edge a create succeeds and its answer is lost.
    "edge": ["throttle 10/2 second", "throttle 10/2 second", "create then close"],
    "v1": ["refused v1", "ok"],
    "v2": ["refused v2", "ok"],
    "exists": ["create then task exists"],
    "conflict": ["task exists"],
    "broken": ["fail no ECS left"],
    "killed": ["slow 30"],
    "api": ["throttle api", "ok"],
    "ip": ["throttle ip", "ok"],
    "user-0": ["throttle user", "ok"],
    "user-1": ["throttle user", "ok"],
    "cut": ["create then drop"],
}
"""Steps by the task's name, which is the request id too."""
REGION_OF = {"api": "per-api", "ip": "per-ip", "cut": "cutting", "user-0": "per-user", "user-1": "per-user"}
"""Regions where other requests are slowed down, or whose descriptions are cut."""
AWAY = [f"away-{number}" for number in range(6)]
LOST = {"edge", "exists", "killed", "cut"}
"""Created, and the answer did not come."""


async def test_answers_to_single_creates_end_as_they_should(vhost: str, tmp_path: Path) -> None:
    """Throttles, lost answers, an outage, refusals, conflicts, failed and cut tasks: one task each, and its events."""
    async with AsyncExitStack() as stack:
        fake_dcs = FaultyDcs(scripts=SCRIPTS)
        cutting = FaultyDcs(scripts=SCRIPTS, description_bytes=128)
        away = FaultyDcs(faults={"create then backend away": 1})
        system = await stack.enter_async_context(RunningSystem(vhost, tmp_path, fake_dcs))
        for service in (cutting, away):
            await stack.enter_async_context(service)
        urls = dict.fromkeys(("cn-north-4", "per-api", "per-ip", "per-user"), fake_dcs.url)
        endpoints = json.dumps(urls | {"cutting": cutting.url, "away": away.url})
        environment = {**SETTINGS, "WORKER_DCS_ENDPOINTS": endpoints, "WORKER_FOLLOW_UP": "true"}
        worker = system.worker(**environment)
        await worker.ready()
        for name in ("broken", "killed"):
            await system.publish(request(name, name))
        settled = partial(worker.metric, "dcs_worker_deliveries_settled_total", 'outcome="succeeded"')
        await until(lambda: settled() == 1 and len(fake_dcs.tasks) == 2, 10, worker.explain)
        worker.process.kill()
        (task,) = (task for task in fake_dcs.tasks if task.name == "killed")
        task.status = "ERROR"
        await fake_dcs.apply(operation_scripts={"list": ["close", "ok"]})
        worker = system.worker(**environment)
        await worker.ready()  # no request is delivered to the killed one, or it would count as redelivered
        for name in SCRIPTS.keys() - {"broken", "killed"}:
            body = request(name, name, region=REGION_OF.get(name), project_id=name)
            body["task"]["description"] = "é" * 100
            await system.publish(body)
        for name in AWAY:
            await system.publish(request(name, name, region="away"))
        await until(lambda: "breaker.opened" in worker.log_path.read_text(), 15, worker.explain)
        await away.apply(faults=None)
        await until(lambda: "broken" in endings(system), 30, worker.explain)
        await until(lambda: len(outcomes(system)) == len(SCRIPTS) + len(AWAY), 30, lambda: outcomes(system))

        refused = {"conflict": "rejected", "v1": "rejected", "v2": "rejected"}
        done = {name: "adopted" if name in LOST else "created" for name in SCRIPTS}
        found = outcomes(system)
        assert [found.pop(name) for name in AWAY].count("adopted") >= 5
        assert found == done | refused
        assert endings(system)["broken"] == ("migration.provisioning_failed", "no ECS left")
        bodies = {event.body["name"]: event.body for event in system.events if event.key == FAILED_KEY}
        assert "already exists" in bodies["conflict"]["error"]["error_msg"]
        assert [bodies[name]["error"]["error_code"] for name in ("v1", "v2")] == ["DCS.4872"] * 2
        (adopted,) = (event for event in system.events if event.body["name"] == "killed" and event.key == SUCCEEDED_KEY)
        assert adopted.body["task_status"] == "ERROR"
        creates = [call.at for call in fake_dcs.calls if (call.operation, call.name) == ("create", "edge")]
        assert min(later - earlier for earlier, later in pairwise(creates)) >= 2
        quotas = {line["region"]: line["quota"] for line in worker.log() if line["event"] == "dcs.rate_limited"}
        assert quotas == {"per-api": pytest.approx(2000 / 60), "per-ip": 1, "per-user": None, "cn-north-4": 5}

        commands = CommandLine(settings(vhost, tmp_path, fake_dcs.url) | SETTINGS, tmp_path)
        replayed = await commands.run("parked", "replay", "v1", "v2", "--yes")
        assert (replayed.status, replayed.output) == (0, "2 replayed, 0 still parked.\n")
        await until(lambda: {outcomes(system)[name] for name in ("v1", "v2")} == {"created"}, 10)
        created = [task.name for service in (fake_dcs, cutting, away) for task in service.tasks]
        assert sorted(created) == sorted({*done, *AWAY} - {"conflict"})


def outcomes(system: RunningSystem) -> dict[str, str]:
    """Resolution or reason of each request's last outcome, by the name of its task."""
    events = [event for event in list(system.events) if event.key in (SUCCEEDED_KEY, FAILED_KEY)]
    return {event.body["name"]: event.body.get("resolution") or event.body["reason"] for event in events}


def endings(system: RunningSystem) -> dict[str, tuple[str, str | None]]:
    """How the tasks ended that are followed up: key and text of the event, by name."""
    events = [event for event in list(system.events) if event.key not in (SUCCEEDED_KEY, FAILED_KEY)]
    return {event.body["name"]: (event.key, event.body.get("fail_reason")) for event in events}


async def test_wrong_endpoint_and_expiring_keys_cost_no_request(vhost: str, tmp_path: Path) -> None:
    """1,000 requests wait for the endpoint to be corrected, with less than a call per second; then all are created.

    Meanwhile the keys of the platform expire several times.
    """
    fake_dcs = FaultyDcs(auth={"mode": "platform", "temporary_key_seconds": 3 * machine_load_factor()})
    (tmp_path / "token").write_text(fake_dcs.settings.auth.workload_token.get_secret_value())
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        way = {
            name: value.format(url=fake_dcs.url, token_file=tmp_path / "token")
            for name, value in WAYS["pod identity"].items()
        }
        identity = {"WORKER_CREDENTIALS": "platform", "WORKER_AUTH_TOKEN": None, **way}
        wrong = json.dumps({"cn-north-4": f"{fake_dcs.url}/wrong"})
        worker = system.worker(**SETTINGS, **identity, WORKER_DCS_ENDPOINTS=wrong)
        await worker.ready()
        started = time.monotonic()
        task_names = await publish_all(system, 1000)
        await until(lambda: "APIGW.0101" in health(worker), HEALTH_SECONDS, worker.explain)
        assert time.monotonic() - started < HEALTH_SECONDS * machine_load_factor()
        before = len(lookups(fake_dcs))
        await asyncio.sleep(2 * QUIET_SECONDS)
        assert len(lookups(fake_dcs)) - before <= 2 * QUIET_SECONDS
        assert await system.depth(PARKED) == 0
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0

        worker = system.worker(**SETTINGS, **identity)
        await system.answered(len(task_names))
        system.assert_one_task_each(task_names)
        assert {event.key for event in system.events} == {SUCCEEDED_KEY}
        assert fake_dcs.stats()["issued"]["keys"] >= 3
        assert worker.metric("dcs_worker_dcs_calls_total", 'status="401"') == 0


def lookups(fake_dcs: FaultyDcs) -> list[str]:
    """The calls that came to no API: all those of a wrong endpoint."""
    return [call.path for call in fake_dcs.calls if call.operation == "other"]
