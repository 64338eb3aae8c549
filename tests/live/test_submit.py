"""`submit` beside a real broker and a real worker: all sent, followed to the end, and never twice."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tools.harness.parked_queue import CommandLine, settings
from tools.harness.running_system import RunningSystem, request, until


@pytest.fixture
async def system(vhost: str, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """Broker and fake DCS, which refuses some names, with a worker that is ready."""
    fake_dcs = FaultyDcs(scripts={"refused": ["error 400 DCS.4922"]})
    async with RunningSystem(vhost, tmp_path, fake_dcs) as system:
        await system.worker().ready()
        yield system


def _command_line(system: RunningSystem) -> CommandLine:
    return CommandLine(settings(system.amqp_url, system.folder, system.fake_dcs.url), system.folder)


def _lines(requests: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in requests)


def _anonymous(name: str) -> dict[str, Any]:
    """A request that brings no id."""
    whole = request(name)
    del whole["request_id"]
    return whole


async def test_file_is_sent_and_followed_to_its_end(system: RunningSystem) -> None:
    """Every request has one task and its outcome is counted; a repeated line is one request."""
    task_names = [f"file-{number}" for number in range(300)]
    file = system.folder / "requests.jsonl"
    file.write_bytes(_lines([*map(_anonymous, task_names), _anonymous("file-7")]))

    done = await _command_line(system).run("submit", file.name, "--wait")

    assert done.status == 0, done.errors
    assert done.output.startswith("301 lines, of which 1 line repeats an earlier one: 300 requests")
    assert [line.split() for line in done.output.splitlines()[-2:]] == [["outcome", "requests"], ["created", "300"]]
    assert "300 of 300 answered" in done.errors
    system.assert_one_task_each(task_names)


async def test_same_file_sent_again_creates_no_second_task(system: RunningSystem) -> None:
    """Its requests are answered as before, also those with ids that the worker derived."""
    task_names = [f"again-{number}" for number in range(20)]
    for name in task_names[:5]:
        await system.publish(_anonymous(name))
    await system.answered(5)
    for _ in range(2):
        done = await _command_line(system).run(
            "submit", "-", "--wait", "--json", stdin=_lines(map(_anonymous, task_names))
        )
        assert (done.status, done.answer["sent"], done.answer["outcomes"]) == (0, 20, {"created": 20})

    system.assert_one_task_each(task_names)


async def test_failed_request_fails_command(system: RunningSystem) -> None:
    """The table has a row for each outcome, and the line, id and reason of what did not succeed."""
    rows = [["p1", "good", "v", "s", "g"], ["p1", "refused", "v", "s", "g"]]
    table = "\n".join(
        ",".join(row) for row in [["project_id", "name", "vpc_id", "subnet_id", "security_group_id"], *rows]
    )
    command_line = _command_line(system)

    done = await command_line.run("submit", "-", "--format", "csv", "--wait", stdin=table.encode())
    machine = await command_line.run("submit", "-", "--format", "csv", "--wait", "--json", stdin=table.encode())

    assert (done.status, machine.status) == (1, 1)
    assert "line 3  " in done.output
    assert " rejected (DCS.4922): DCS refused the request for good" in done.output
    assert machine.answer["outcomes"] == {"created": 1, "rejected": 1}
    assert [(one["line"], one["outcome"]) for one in machine.answer["unsuccessful"]] == [(3, "rejected")]
    created, rejected = machine.answer["results"]
    (task,) = system.fake_dcs.tasks
    assert (created["line"], created["resolution"], created["instance_id"]) == (2, "created", task.task_id)
    assert (rejected["line"], rejected["reason"], rejected["instance_id"]) == (3, "rejected", None)
    assert created["reason"] is rejected["resolution"] is None


async def test_request_from_options_is_sent(system: RunningSystem) -> None:
    """It is sent as given, and its outcome awaited."""
    given = ("--project", "p1", "--name", "one", "--vpc", "v", "--subnet", "s", "--security-group", "g")

    done = await _command_line(system).run("submit", *given, "--request-id", "mine", "--description", "ours", "--wait")

    assert done.status == 0, done.errors
    (event,) = (await system.answered(1))["mine"]
    assert (event.body["project_id"], event.body["name"]) == ("p1", "one")
    assert (system.fake_dcs.tasks[0].description or "").startswith("ours #rq-")


async def test_waiting_ends_after_timeout(vhost: str, tmp_path: Path) -> None:
    """Without an event the command ends after its time, lists open requests, and fails."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        worker.process.send_signal(signal.SIGSTOP)

        done = await _command_line(system).run(
            "submit", "-", "--wait", "--timeout", "1", stdin=_lines([request("one", "r1")])
        )

        assert done.status == 1
        assert "line 1  r1  pending" in done.output
        assert "No worker consumes" not in done.errors


async def test_missing_worker_is_reported_at_once(vhost: str, tmp_path: Path) -> None:
    """Before the wait, not at its end: the request waits in its queue."""
    async with RunningSystem(vhost, tmp_path) as system:
        (system.folder / "one.jsonl").write_bytes(_lines([request("one", "r1")]))
        drained = system.worker()
        await drained.ready()
        drained.process.terminate()
        await drained.ended()
        process = await _command_line(system).start("submit", "one.jsonl", "--wait", "--timeout", "60")
        assert process.stderr is not None
        async with asyncio.timeout(20):
            said = await process.stderr.readline()
        assert process.returncode is None
        assert (
            said == b"No worker consumes the queue 'dcs.migration.requests' now: requests wait in it until one does.\n"
        )

        await system.worker().ready()
        async with asyncio.timeout(20):
            await process.communicate()
        assert process.returncode == 0


async def test_region_of_a_derived_id_is_sent(system: RunningSystem) -> None:
    """The same line from a shell with another default region is another request, and a worker without it says so."""
    command_line = _command_line(system)
    elsewhere = CommandLine(
        dict(command_line.environment) | {"WORKER_DCS_REGION": "eu-west-101", "WORKER_DCS_ENDPOINTS": ""}, system.folder
    )
    line = _anonymous("one")
    del line["region"]

    here = await command_line.run("submit", "-", "--wait", "--json", stdin=_lines([line]))
    there = await elsewhere.run("submit", "-", "--wait", "--json", stdin=_lines([line]))

    assert (here.status, there.status) == (0, 1)
    (refused,) = there.answer["results"]
    assert refused["reason"] == "invalid_request"
    assert "region" in refused["said"]
    system.assert_one_task_each(["one"])


async def test_invalid_line_prevents_sending(system: RunningSystem) -> None:
    """The problem is reported with line and field, and not even the valid lines before it are sent."""
    wrong = _anonymous("wrong")
    wrong["task"]["vpc"] = wrong["task"].pop("vpc_id")

    done = await _command_line(system).run("submit", "-", stdin=_lines([_anonymous("good"), wrong]))

    assert (done.status, done.output) == (1, "")
    assert "line 2: task.vpc is not a known field; did you mean vpc_id?\n" in done.errors
    assert (await system.depth(names.REQUEST_QUEUE), system.events) == (0, [])


async def test_killed_submission_can_be_repeated(system: RunningSystem) -> None:
    """kill -9 in the middle, the same file once more: one task for each line."""
    task_names = [f"killed-{number}" for number in range(200)]
    file = system.folder / "requests.jsonl"
    file.write_bytes(_lines(map(_anonymous, task_names)))
    command_line = _command_line(system)
    process = await command_line.start("submit", file.name, "--rate", "100")
    await until(lambda: len(system.fake_dcs.tasks) > 20, 20)
    process.kill()
    await process.communicate()
    assert len(system.by_request()) < 200

    done = await command_line.run("submit", file.name, "--wait")

    assert done.status == 0, done.errors
    system.assert_one_task_each(task_names)


async def test_interrupted_submission_reports_progress(system: RunningSystem) -> None:
    """Ctrl-C ends with 130, the number of confirmed requests, and no traceback."""
    file = system.folder / "requests.jsonl"
    file.write_bytes(_lines(_anonymous(f"slow-{number}") for number in range(200)))
    process = await _command_line(system).start("submit", file.name, "--rate", "50")
    await until(lambda: len(system.fake_dcs.tasks) > 10, 20)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        output, errors = await process.communicate()

    assert (process.returncode, output) == (130, b"")
    assert b"of 200 requests are confirmed. Submit the same input again: no task is created twice.\n" in errors
    assert b"Traceback" not in errors


async def test_rejected_publish_is_reported(vhost: str, tmp_path: Path) -> None:
    """No broker, or no queue behind the exchange: exit status 69 and a sentence, and JSON on demand."""
    variables = settings(vhost, tmp_path)
    body = _lines([request("one", "r1")])

    missing = await CommandLine(variables, tmp_path).run("submit", "-", "--json", stdin=body)
    unreachable = CommandLine(variables | {"WORKER_AMQP_URL": "amqp://guest:hunter2@127.0.0.1:1/"}, tmp_path)
    down = await unreachable.run("submit", "-", stdin=body)

    assert (missing.status, missing.answer["sent"]) == (69, 0)
    assert "topology apply" in missing.errors
    assert (down.status, down.output) == (69, "")
    assert "Connection refused" in down.errors
    assert "hunter2" not in down.errors
