"""`explain` on a real broker: a request's way to the parked queue, and an event that is listened for."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from schemas import names
from schemas.journal import Journal
from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RedisServer
from tools.harness.parked_queue import CommandLine, settings
from tools.harness.running_system import PROJECT, RunningSystem, request

SCRIPTS = {
    "first": ["create then drop"],
    "forbidden": ["error 403 DCS.4030"],
    "clean": ["ok"],
}


async def test_timeline_travels_with_request_and_is_printed(vhost: str, tmp_path: Path) -> None:
    """From the parked queue, from an event that comes, and none for a request that succeeded at once."""
    fake_dcs = FaultyDcs(scripts=SCRIPTS)
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        await system.worker(WORKER_RECONCILE="ambiguous").ready()
        command_line = CommandLine(settings(vhost, tmp_path, fake_dcs.url), tmp_path)
        listening = await command_line.start("explain", "first", "--listen", "--json")
        assert listening.stderr is not None
        async with asyncio.timeout(30):
            assert b"Listening for the event of 'first'" in await listening.stderr.readline()
        for name in SCRIPTS:
            await system.publish(request(name, name))
        events = await system.answered(3, 30)
        parked = await command_line.run("explain", "forbidden")
        missing = await command_line.run("explain", "nobody")
        async with asyncio.timeout(30):
            heard, _ = await listening.communicate()

    assert (parked.status, parked.errors) == (0, "")
    lines = [line.split("  ")[-1] for line in parked.output.splitlines()]
    assert lines[6] == "received"
    assert lines[7].startswith("create call 1: 403 (DCS.4030) after ")
    assert lines[8] == "parked: forbidden (DCS.4030); last error of DCS: The request is refused."
    assert missing.status == 1
    assert "not asked  claims in Redis            needs --project" in missing.output
    (timeline_record,) = json.loads(heard)
    assert (listening.returncode, timeline_record["state"]) == (0, "succeeded")
    did = [step["did"] for step in timeline_record["timeline"]]
    assert (did[0], did[-1]) == ("received", "event")
    assert did[1:3] == ["create", "look"]
    assert names.JOURNAL not in events["clean"][0].headers
    carried = Journal.read(events["first"][0].headers[names.JOURNAL])
    assert carried is not None
    assert [entry.did.value for entry in carried.entries] == did[1:-1]


async def test_request_that_is_not_parked_is_found_in_redis_and_in_dcs(
    vhost: str, redis_node: RedisServer, tmp_path: Path
) -> None:
    """With claims its whole timeline, without them its task by the marker; and nothing is created."""
    fake_dcs = FaultyDcs(scripts={"first": ["create then drop"]})
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        await system.worker(WORKER_CLAIMS_URL=redis_node.url).ready()
        variables = settings(vhost, tmp_path, fake_dcs.url)
        await system.publish(request("first", "first"))
        await system.answered(1, 30)
        with_claims = CommandLine(variables | {"WORKER_CLAIMS_URL": redis_node.url}, tmp_path)
        ended = await with_claims.run("explain", "first", "--project", PROJECT, "--json")
        unknown = await with_claims.run("explain", "another", "--project", PROJECT)
        by_marker = await CommandLine(variables, tmp_path).run("explain", "first", "--project", PROJECT)
        (task,) = fake_dcs.tasks

    (found,) = ended.answer
    assert (ended.status, ended.errors, found["state"]) == (0, "", "succeeded")
    did = [step["did"] for step in found["timeline"]]
    assert {"received", "create", "event"} <= set(did)
    assert {source["name"]: source["state"] for source in found["sources"]} == {
        "parked queue": "not found",
        "claims in Redis": "found",
        "tasks in DCS, cn-north-4": "found",
        "requests and retry queues": "not asked",
    }
    assert (unknown.status, "no record" in unknown.output) == (1, True)
    assert (by_marker.status, f"task {task.task_id} has the marker" in by_marker.output) == (0, True)
    assert "its status is RUNNING" in " ".join(by_marker.output.split())


@pytest.mark.parametrize("how", [signal.SIGINT, None])
async def test_explain_ends_without_request(vhost: str, tmp_path: Path, how: signal.Signals | None) -> None:
    """Ctrl-C ends it with 130 and no output, a timeout with 1 and what to do."""
    async with RunningSystem(vhost, tmp_path):
        command_line = CommandLine(settings(vhost, tmp_path), tmp_path)
        process = await command_line.start("explain", "nobody", "--listen", "--timeout", "60" if how else "0.2")
        assert process.stderr is not None
        async with asyncio.timeout(30):
            await process.stderr.readline()
            if how:
                process.send_signal(how)
            output, errors = await process.communicate()
    assert (process.returncode, output) == ((130, b"") if how else (1, b""))
    assert errors == b"" if how else b"send the request again" in errors
