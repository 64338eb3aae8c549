"""`parked replay` beside a real worker: looked for first, a canary first, one task each however often it is killed."""

import json
import random
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas import names
from tests.fakes.faulty_dcs import FaultyDcs
from tools.harness.parked_queue import PARKED, CommandLine, ParkedQueueSetup, park, parked_headers, read, settings
from tools.harness.running_system import RunningSystem, request, until
from tools.storms import replay_storm
from tools.storms.replay_storm import ReplayStorm

LATELY = "2026-11-01T08:59:00.000Z"


@pytest.fixture
async def system(vhost: str, tmp_path: Path) -> AsyncIterator[RunningSystem]:
    """Broker and fake DCS, with the queues declared by a worker that is ready."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.worker().ready()
        yield system


def _command_line(system: RunningSystem) -> CommandLine:
    return CommandLine(settings(system.amqp_url, system.folder, system.fake_dcs.url), system.folder)


async def _park(system: RunningSystem, *ids: str, **headers: object) -> None:
    async with await system._connection.channel() as channel:
        await park(channel, *(request(one, one) for one in ids), headers=parked_headers(**headers))


async def test_dry_run_prints_the_expected_result_and_changes_nothing(system: RunningSystem) -> None:
    """A task exists, would be created, is unknown, would expire, or the request is invalid."""
    await system.publish(request("there", "there"))
    await system.answered(1)
    await _park(system, "there", "gone", x_last_sent_at=LATELY)
    async with await system._connection.channel() as channel:
        elsewhere = request("far", "far", region="eu-west-101")
        late = request("late", "late", not_after="2026-11-01T08:00:00Z")
        await park(channel, elsewhere, late, b"[]", message_id="m1")
    (task,) = system.fake_dcs.tasks

    done = await _command_line(system).run("parked", "replay", "--all", "--json")

    assert done.status == 0
    verdicts = {item["id"]: (item["verdict"], item["text"], item["tasks"]) for item in done.answer["requests"]}
    exists = f"task {task.task_id} exists: only the event is sent"
    assert verdicts == {
        "there": ("exists", exists, [task.task_id]),
        "gone": ("create", "would create", []),
        "far": ("unclear", "unknown: region 'eu-west-101' is not in WORKER_DCS_ENDPOINTS", []),
        "late": ("expire", "would expire: its not_after has passed", []),
        "m1": ("invalid", "not a valid request, stays parked", []),
    }
    assert (len(system.events), len(system.fake_dcs.tasks), await system.depth(PARKED)) == (1, 1, 5)


async def test_replayed_request_is_answered_and_removed(system: RunningSystem) -> None:
    """One is created, one adopted, the others stay; the events say that they answer a replay."""
    await system.publish(request("there", "there"))
    await system.answered(1)
    await _park(system, "there", "gone", "kept")

    done = await _command_line(system).run(
        "parked", "replay", "there", "gone", "--yes", "--canary", "1", "--rate", "50"
    )

    assert (done.status, done.output) == (0, "2 replayed, 0 still parked.\n")
    assert "there  created" in done.errors or "gone  created" in done.errors
    await until(lambda: len(system.events) >= 3, 20, lambda: system.events)
    assert {event.body["request_id"] for event in system.events} == {"there", "gone"}
    system.assert_one_task_each(["there", "gone"])
    assert [json.loads(one.body)["request_id"] for one in await read(system.amqp_url)] == ["kept"]


async def test_failed_canary_stops_replay(vhost: str, tmp_path: Path) -> None:
    """Only the canary is sent; it is parked again, and the command fails and says why."""
    forbidden = FaultyDcs(faults={"error 403": 1.0})
    async with RunningSystem(vhost, tmp_path, forbidden) as system:
        await system.worker().ready()
        await _park(system, *(f"r{number}" for number in range(20)))

        done = await _command_line(system).run("parked", "replay", "--all", "--yes", "--canary", "2", "--json")

        assert (done.status, done.answer["replayed"], done.answer["left"], done.answer["done"]) == (1, 2, 18, False)
        assert [one["succeeded"] for one in done.answer["canary"]] == [False, False]
        assert done.answer["canary"][0]["text"].startswith("forbidden")
        assert len(system.by_request()) == 2
        again = {json.loads(one.body)["request_id"]: one.headers for one in await read(vhost)}
        assert len(again) == 20
        assert sorted(str(headers.get(names.PARKED_REASON)) for headers in again.values()) == (
            ["exhausted"] * 18 + ["forbidden"] * 2
        )


async def test_canary_without_outcome_stops_replay(vhost: str, tmp_path: Path) -> None:
    """While no worker answers, the others stay parked."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        worker.process.send_signal(signal.SIGSTOP)
        await _park(system, "a", "b", "c")

        done = await _command_line(system).run("parked", "replay", "--name", "?", "--yes", "--timeout", "1")

        assert done.status == 1
        assert "no outcome after 1 s" in done.errors
        assert "1 replayed, 2 still parked." in done.output
        assert await system.depth(PARKED) == 2


def test_replayed_copy_starts_anew_and_looks_up_first(vhost: str, tmp_path: Path) -> None:
    """Schedule reset, one replay more, the time of the last create kept; body, properties, the rest as they were."""
    lot = ParkedQueueSetup(vhost, settings(vhost, tmp_path))
    lot.declare()
    kept = {"traceparent": "00-1", names.LAST_SENT_AT: LATELY, names.REPLAYS: 2}
    properties = {"message_id": "m", "correlation_id": "c", "reply_to": "r", "priority": 3}
    sent, started = datetime(2026, 11, 1, tzinfo=UTC), datetime.now(UTC)
    lot.park(request("one", "one"), headers=parked_headers() | kept, timestamp=sent, **properties)

    done = lot.run("parked", "replay", "one", "--yes", "--canary", "0")

    assert (done.status, lot.taken(PARKED)) == (0, [])
    (copy,) = lot.taken(names.REQUEST_QUEUE)
    assert json.loads(copy.body) == request("one", "one")
    (replay_entry,) = json.loads(str(copy.headers[names.JOURNAL]))["entries"]
    assert (replay_entry["did"], replay_entry["n"]) == ("replayed", 3)
    others = (names.DELIVERY_COUNT, names.JOURNAL)
    assert {name: value for name, value in copy.headers.items() if name not in others} == {
        "traceparent": "00-1",
        names.ATTEMPTS: 1,
        names.ROUND: 0,
        names.DELIVERIES: 5,
        names.INTERRUPTIONS: 0,
        names.REPLAYS: 3,
        names.FIRST_RECEIVED_AT: "2026-11-01T08:00:00.000Z",
        names.LAST_SENT_AT: LATELY,
    }
    assert {name: getattr(copy, name) for name in properties} == properties
    assert copy.timestamp is not None
    assert started.replace(microsecond=0) <= copy.timestamp <= datetime.now(UTC)
    assert not copy.redelivered


@pytest.mark.timeout(180)
async def test_killed_replay_loses_and_repeats_nothing(vhost: str, tmp_path: Path) -> None:
    """kill -9 during a replay, repeated: in the end every request is answered and has one task."""
    await replay_storm.run(ReplayStorm(requests=100, kills=5, seed=random.randrange(1_000_000)), vhost, tmp_path)
