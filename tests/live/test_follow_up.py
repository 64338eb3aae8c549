"""Follow-up of created tasks: real workers, a real broker, and a replica that is killed while it holds watches."""

import asyncio
import json
import os
import signal
from math import inf
from pathlib import Path
from typing import Any

from schemas import names
from tools.harness.parked_queue import CommandLine
from tools.harness.parked_queue import settings as cli_settings
from tools.harness.running_system import RunningSystem, request, until
from worker.tools.fake_dcs.tasks import PLAIN_TEXT_PASSWORD

FOLLOW_UP = {"WORKER_FOLLOW_UP": "true", "WORKER_DCS_TIMEOUT": 10, "WORKER_SETTLE": 11, "WORKER_RETRY_DELAYS": "1,12"}
FAIL_REASON = "no free address"
PROVISIONED, NOT_PROVISIONED = "migration.provisioned", "migration.provisioning_failed"
LAST_EVENTS = {
    "ready": (PROVISIONED, None, None),
    "broken": (NOT_PROVISIONED, "task_failed", FAIL_REASON),
    "gone": (NOT_PROVISIONED, "task_gone", None),
    "stuck": (NOT_PROVISIONED, "timeout", None),
}


def provisioning(system: RunningSystem) -> dict[str, tuple[str, str | None, str | None]]:
    """Routing key, reason and words of DCS of each task's last event after its success, by task name."""
    return {
        event.body["name"]: (event.key, event.body.get("reason"), event.body.get("fail_reason"))
        for event in system.events
        if event.key in (PROVISIONED, NOT_PROVISIONED)
    }


async def test_each_task_gets_one_kind_of_event_although_replicas_are_killed(vhost: str, tmp_path: Path) -> None:
    """Killed while a look hangs, with all watches in hand: the other replica says how each task ended."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"provisioning": 10.0, "scripts": {"broken": [f"fail {FAIL_REASON}"]}})
        settings = {**FOLLOW_UP, "WORKER_FOLLOW_UP_TIMEOUT": 10, "WORKER_LOG_LEVEL": "debug"}
        killed = system.worker(**settings)
        await killed.ready()
        for name in LAST_EVENTS:
            await system.publish(request(name, name))
        await until(lambda: len(system.events) >= 4, 20)
        assert {event.key for event in system.events} == {"migration.succeeded"}
        waiting = names.follow_up_queue(names.REQUEST_QUEUE, 0)
        assert await system.depth(waiting) == 4
        tasks = {task.name: task for task in system.fake_dcs.tasks}
        tasks["gone"].status, tasks["stuck"].provisioned = "DELETED", inf
        await system.fake_dcs.apply({"operation_scripts": {"list": ["hang"]}})
        lists = len([call for call in system.fake_dcs.calls if call.operation == "list"])
        await system.fake_dcs.wait_until(
            lambda: len([call for call in system.fake_dcs.calls if call.operation == "list"]) > lists, 20
        )
        os.kill(killed.pid, signal.SIGKILL)
        await system.fake_dcs.apply({"operation_scripts": {"list": None}})
        await asyncio.gather(*(system.worker(**settings).ready() for _ in range(2)))

        await until(lambda: len(provisioning(system)) == 4, 40, lambda: (provisioning(system), system.fake_dcs.stats()))
        assert provisioning(system) == LAST_EVENTS
        assert {call.operation for call in system.fake_dcs.calls} == {"create", "list", "show", "job"}
        ids: dict[Any, set[Any]] = {}
        for event in system.events:
            ids.setdefault((event.body["name"], event.key), set()).add(event.properties.message_id)
        assert {len(known) for known in ids.values()} == {1}
        assert len(ids) == 8

        def counts() -> list[float]:
            results = ("provisioned", "failed", "gone", "timeout")
            return [
                sum(worker.metric("dcs_worker_follow_ups_total", f'result="{result}"') for worker in system.workers[1:])
                for result in results
            ]

        await until(lambda: counts() == [1, 1, 1, 1], 10, counts)
        assert sorted(task.name for task in system.fake_dcs.tasks) == sorted(LAST_EVENTS)
        assert PLAIN_TEXT_PASSWORD not in "".join(path.read_text() for path in tmp_path.glob("worker-*.log"))
        assert PLAIN_TEXT_PASSWORD not in json.dumps([event.body for event in system.events])


async def test_watches_wait_while_no_worker_follows_up(vhost: str, tmp_path: Path) -> None:
    """A worker without follow-up never meets one, and creates nothing for it; later they are looked at."""
    async with RunningSystem(vhost, tmp_path) as system:
        with_follow_up = system.worker(**FOLLOW_UP)
        await with_follow_up.ready()
        await system.publish(request("a", "a"))
        await until(lambda: len(system.events) == 1, 20)
        os.kill(with_follow_up.pid, signal.SIGTERM)
        await with_follow_up.ended()
        await system.worker().ready()
        due = names.follow_up_queue(names.REQUEST_QUEUE)
        async with asyncio.timeout(20):
            while await system.depth(due) != 1:
                await asyncio.sleep(0.2)
        await system.publish(request("b", "b"))
        await until(lambda: len(system.events) == 2, 20)
        assert await system.depth(due) == 1

        command_line = CommandLine(cli_settings(vhost, tmp_path), tmp_path)
        listening = await command_line.start("explain", "a", "--listen", "--json")
        assert listening.stderr is not None
        async with asyncio.timeout(30):
            await listening.stderr.readline()
        await system.worker(**FOLLOW_UP).ready()
        await until(lambda: "a" in provisioning(system), 20)
        async with asyncio.timeout(30):
            heard, _ = await listening.communicate()
        (timeline,) = json.loads(heard)
        assert timeline["state"] == "provisioned"
        assert sorted(task.name for task in system.fake_dcs.tasks) == ["a", "b"]
        assert set(provisioning(system)) == {"a"}
