"""Records in a real Redis that no worker wrote, and those of 0.1.0: the former are doubt, the latter are kept."""

import asyncio
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.envelope import Envelope
from schemas.event import Reason
from schemas.journal import EMPTY, Kind
from schemas.request import Request, Task
from tests.fakes.servers import RedisServer
from tests.live.redis_replicas import (
    LEASE,
    NOW,
    REDELIVERED,
    RecordingObserver,
    ending,
    migration,
    operator,
    renewed,
    replica,
    two_replicas,
)
from worker.claims.redis_claims import RedisClaims
from worker.claims.scripts import MEMORY_KEY, record_key
from worker.pipeline import final_events
from worker.policy.call_result import TaskCreated
from worker.policy.migration_request import MigrationRequest
from worker.policy.migration_request import migration as ordered
from worker.policy.outcome import ClaimedElsewhere, Concluded, Granted

FIXTURE = Path(__file__).parents[1] / "fixtures" / "claims_records_v0_1_0.json"
FINGERPRINT = migration().fingerprint
KEY = record_key(migration())
YEARS = 30 * 365 * 24 * 3600
OWNER = "0123456789abcdef-7"


def claim(**fields: Any) -> dict[str, Any]:
    """A claim of a worker that died, with other fields; None: without one."""
    record = {"fingerprint": FINGERPRINT, "replays": "0", "token": OWNER, "until": int(NOW * 1000) - 1000} | fields
    return {name: value for name, value in record.items() if value is not None}


def released(**fields: Any) -> dict[str, Any]:
    """A claim that was released, with other fields."""
    return claim(token=None, until=None, **fields)


def concluded(text: str | None = None, fields: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A request that succeeded: with other members in its ending, another text for it, or other fields."""
    record = ending(migration()).to_record() | members
    known = {"fingerprint": FINGERPRINT, "replays": "0", "succeeded": "1", "ending": text or json.dumps(record)}
    return known | (fields or {})


ODD_HASHES: dict[str, dict[str, Any]] = {
    "nothing of ours": {"colour": "green"},
    "no fingerprint": claim(fingerprint=None),
    "fingerprint of another kind": claim(fingerprint="f"),
    "fingerprint of another alphabet": claim(fingerprint="F" * 32),
    "claim for 30 years": claim(until=int((NOW + YEARS) * 1000)),
    "claim for two hours": claim(until=int((NOW + 7200) * 1000)),
    "claim without end": claim(until="inf"),
    "claim until nan": claim(until="nan"),
    "claim until a text": claim(until="tomorrow"),
    "claim without a time": claim(until=None),
    "token of another kind": claim(token="me"),
    "replays a text": claim(replays="some"),
    "replays nan": claim(replays="nan"),
    "replays negative": claim(replays="-1"),
    "replays a fraction": claim(replays="1.5"),
    "replays too many": claim(replays="1e9"),
    "sent nan": released(sent="nan"),
    "sent 1e30": released(sent="1e30"),
    "sent in an hour": released(sent=NOW + 3600),
    "sent a text": released(sent="yesterday"),
    "sent before time": released(sent="-1"),
    "journal of 300 kB": concluded(journal="x" * 300_000),
    "journal of 3 kB": concluded(journal="x" * 3_000),
    "event id a number": concluded(event_id=7),
    "time in the future": concluded(completed_at="2099-01-01T00:00:00.000Z"),
    "other JSON": concluded("[1, 2]"),
    "truncated": concluded(json.dumps(ending(migration()).to_record())[:-30]),
    "no JSON": concluded("\x00"),
    "deep JSON": concluded("[" * 60_000),
    "empty": concluded(fields={"ending": ""}),
    "neither success nor failure": concluded(fields={"succeeded": "2"}),
    "failure of a success": concluded(fields={"succeeded": "0"}),
    "claimed and concluded": concluded(fields={"token": OWNER, "until": 1}),
    "of another request": concluded(subject="r-2"),
}


async def put(client: Any, kind: str) -> None:
    """Store a record of this kind, or a key of this type."""
    match kind:
        case "string":
            await client.set(KEY, "?")
        case "list":
            await client.rpush(KEY, "?")
        case "set":
            await client.sadd(KEY, "?")
        case "sorted set":
            await client.zadd(KEY, {"?": 1})
        case "stream":
            await client.xadd(KEY, {"a": "?"})
        case _:
            await client.hset(KEY, mapping=ODD_HASHES[kind])


TYPES = ("string", "list", "set", "sorted set", "stream")


@pytest.mark.parametrize("kind", [*TYPES, *ODD_HASHES])
async def test_foreign_record_leaves_doubt(redis_node: RedisServer, kind: str) -> None:
    """The request is claimed and looked up at once, the record is counted once, and the next ones work as usual."""
    reported = RecordingObserver(), RecordingObserver()
    async with (
        replica(redis_node.url, reported[0]) as one,
        replica(redis_node.url, reported[1]) as other,
        operator(redis_node) as client,
    ):
        await put(client, kind)
        assert await one.take(migration(), NOW, REDELIVERED) == Granted(is_first=False)
        assert one.is_claimed(migration())
        assert set(await client.hgetall(KEY)) == {b"fingerprint", b"token", b"until", b"replays"}
        assert await other.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(FINGERPRINT)
        await one.release(migration(), NOW - 1)
        assert await other.take(migration(), NOW, REDELIVERED) == Granted(is_first=False, last_sent_at=NOW - 1)
        done = ending(migration())
        assert await other.conclude(migration(), done) == done
        assert await one.take(migration(), NOW, REDELIVERED) == Concluded(done)
        assert 0 < await client.pttl(KEY) <= 7 * 86_400_000
    assert [observer.records for observer in reported] == [["p/r-1"], []]
    assert [observer.available for observer in reported] == [[True], [True]]


async def test_doubtful_record_keeps_valid_members(redis_node: RedisServer) -> None:
    """The time of a possible create is kept, although the claim itself is invalid."""
    async with replica(redis_node.url) as claims, operator(redis_node) as client:
        await client.hset(KEY, mapping=claim(until=int((NOW + YEARS) * 1000), sent=NOW - 9))
        assert await claims.take(migration(), NOW, REDELIVERED) == Granted(is_first=False, last_sent_at=NOW - 9)
        assert float(await client.hget(KEY, "sent")) == NOW - 9


async def test_valid_claim_in_damaged_record_is_respected(redis_node: RedisServer) -> None:
    """An invalid create time neither takes the request from its owner nor stops the renewal."""
    reported = RecordingObserver()
    async with (
        replica(redis_node.url, reported) as one,
        replica(redis_node.url) as other,
        operator(redis_node) as client,
    ):
        await one.take(migration(), NOW, REDELIVERED)
        await client.hset(KEY, "sent", "nan")
        assert await other.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(FINGERPRINT)
        await renewed(client, migration())
        assert one.is_claimed(migration())
        await one.release(migration(), None)
        assert await other.take(migration(), NOW, REDELIVERED) == Granted(is_first=False)
    assert reported.records == []


OVERWRITTEN = (*TYPES, "nothing of ours", "claim for 30 years", "replays nan", "empty")


@pytest.mark.parametrize("kind", OVERWRITTEN)
async def test_claim_is_renewed_after_record_was_overwritten(redis_node: RedisServer, kind: str) -> None:
    """The next renewal replaces the foreign record; the claim still excludes others, and the connection stays open."""
    reported = RecordingObserver()
    async with (
        replica(redis_node.url, reported) as one,
        replica(redis_node.url) as other,
        operator(redis_node) as client,
    ):
        await one.take(migration(), NOW, REDELIVERED)
        await client.delete(KEY)
        await put(client, kind)
        async with asyncio.timeout(2 * LEASE):
            while await client.type(KEY) != b"hash" or await client.hget(KEY, "token") in (None, OWNER.encode()):
                await asyncio.sleep(0.01)
        assert one.is_claimed(migration())
        assert await other.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(FINGERPRINT)
    assert reported.available == [True]


@pytest.mark.parametrize("kind", OVERWRITTEN)
async def test_overwritten_record_is_released_and_concluded(redis_node: RedisServer, kind: str) -> None:
    """Release and outcome replace the foreign record."""
    async with replica(redis_node.url, lease=30.0) as one, two_replicas(redis_node.url) as others:
        async with operator(redis_node) as client:
            for release in (True, False):
                await one.take(migration(), NOW, REDELIVERED)
                await client.delete(KEY)
                await put(client, kind)
                if release:
                    await one.release(migration(), NOW - 1)
                    assert await others[0].take(migration(), NOW, REDELIVERED) == Granted(
                        is_first=False, last_sent_at=NOW - 1
                    )
                    await others[0].release(migration(), None)
                else:
                    await one.conclude(migration(), ending(migration()))
        assert await others[1].take(migration(), NOW, REDELIVERED) == Concluded(ending(migration()))


async def test_unreadable_ending_is_ignored(redis_node: RedisServer) -> None:
    """The replica publishes its own outcome; the next replica looks up."""
    async with two_replicas(redis_node.url) as (one, other), operator(redis_node) as client:
        await one.take(migration(), NOW, REDELIVERED)
        await client.delete(KEY)
        await put(client, "truncated")
        assert await one.conclude(migration(), ending(migration())) == ending(migration())
        assert await other.take(migration(), NOW, REDELIVERED) == Granted(is_first=False)


@pytest.mark.parametrize("kind", ["list", "nan", "1e30", "-1e30", "0", "soon"])
async def test_foreign_memory_record_is_treated_as_new(redis_node: RedisServer, kind: str) -> None:
    """Requests do not count as new, and the memory starts again."""
    reported = RecordingObserver()
    async with operator(redis_node) as client:
        await (client.rpush(MEMORY_KEY, "x") if kind == "list" else client.set(MEMORY_KEY, kind))
        async with replica(redis_node.url, reported, min_memory_age=600.0) as claims:
            assert await claims.take(migration(), time.time(), REDELIVERED) == Granted(is_first=False)
            assert abs(float(await client.get(MEMORY_KEY)) - time.time()) < 60
    assert reported.available == [True]
    assert reported.doubts == [pytest.approx(600.0, abs=60)]


# Records of 0.1.0.

THEN = 1795000000.25
OLD: dict[str, Any] = json.loads(FIXTURE.read_text())
JOURNAL = EMPTY.add(THEN - 3, Kind.LOOKUP, "absent", took=0.1).add(
    THEN - 2, Kind.CREATE, "503", n=1, took=0.2, evidence="ambiguous", code="DCS.5000", id_="abc"
)


def old_order(request_id: str) -> MigrationRequest:
    """The order of a request whose record 0.1.0 wrote."""
    task = Task(
        name="dcs-migration",
        vpc_id="vpc",
        subnet_id="subnet",
        security_group_id="group",
        description="Größe 数据",
    )
    request = Request(request_id=request_id, project_id="p", task=task)
    return ordered(request, default_region="cn-north-4", with_marker=True)


def envelope(replays: int = 0, journal: Any = EMPTY) -> Envelope:
    """What was known of such a request."""
    return Envelope(1, 0, 1, 0, replays, THEN - 3, None, False, False, True, journal)


async def write_as_then(one: RedisClaims, other: RedisClaims) -> None:
    """Do what 0.1.0 did when the records were frozen."""
    await one.take(old_order("claimed"), THEN, REDELIVERED)
    await one.take(old_order("claimed-again"), THEN, replace(REDELIVERED, replays=2))
    for name, last_sent_at in (("released", None), ("released-sent", THEN - 30.125), ("taken-after-release", THEN - 1)):
        await one.take(old_order(name), THEN, REDELIVERED)
        await one.release(old_order(name), last_sent_at)
    await other.take(old_order("taken-after-release"), THEN, REDELIVERED)
    await one.release(old_order("released-without-claim"), THEN - 2)
    created, adopted = old_order("created"), old_order("adopted")
    await one.conclude(
        created, final_events.succeeded(created, envelope(), TaskCreated("i-1", "j-1", "req-1"), "created", THEN)
    )
    await one.conclude(
        adopted, final_events.succeeded(adopted, envelope(1, JOURNAL), TaskCreated("é-1"), "adopted", THEN)
    )
    for reason in (reason for reason in Reason if f"dcs-worker:{{p/failed-{reason}}}" in OLD):
        failed = old_order(f"failed-{reason}")
        candidates = ("i-1", "i-2") if reason is Reason.UNRESOLVED else ()
        await one.conclude(
            failed, final_events.failed(failed, envelope(0, JOURNAL), reason, THEN, candidates=candidates)
        )
    reopened = old_order("reopened")
    await one.conclude(reopened, final_events.failed(reopened, envelope(), Reason.REJECTED, THEN))
    await one.take(reopened, THEN, replace(REDELIVERED, replays=1))


def without_chance(record: dict[str, str]) -> dict[str, str]:
    """A record without the name of the process, the time of the server, and what later versions write otherwise.

    That is the event id, whose formula is another, and the event's field `task_status`, which 0.1.0 does not read.
    """
    known = dict(record)
    known["ending"] = re.sub(r'"event_id":"[0-9a-f-]{36}"', "", known.get("ending", ""))
    known["ending"] = known["ending"].replace(r"\"task_status\":null,", "")
    if "token" in known:
        known["token"] = re.sub(r"^[0-9a-f]{16}-[0-9]+$", "token", known["token"])
        known["until"] = re.sub(r"^[0-9]{13}$", "until", known["until"])
    return known


async def test_records_are_written_as_by_0_1_0(redis_node: RedisServer) -> None:
    """Key by key and byte by byte, so that replicas of both versions work side by side."""
    async with two_replicas(redis_node.url) as (one, other), operator(redis_node) as client:
        await write_as_then(one, other)
        keys = sorted(key.decode() for key in await client.keys("*"))
        assert keys == sorted(OLD.keys() - {"dcs-worker:{p/conflict}"})  # a conflict is no longer stored
        for key in keys:
            if key == MEMORY_KEY.decode():
                assert re.fullmatch(r"[0-9]{10}\.[0-9]{6}", (await client.get(key)).decode())
                continue
            found = {name.decode(): value.decode() for name, value in (await client.hgetall(key)).items()}
            assert without_chance(found) == without_chance(OLD[key]), key


async def test_records_of_0_1_0_are_read(redis_node: RedisServer) -> None:
    """Claims, releases and endings that 0.1.0 wrote mean the same to this version."""
    reported = RecordingObserver()
    async with replica(redis_node.url, reported) as claims, operator(redis_node) as client:
        for key, record in OLD.items():
            if key == MEMORY_KEY.decode():
                continue
            name = key.removesuffix("}").partition("/")[2]
            await client.hset(key, mapping=record)
            order = replace(old_order(name), not_after=THEN - 3)
            answer = await claims.take(order, THEN + 60, replace(REDELIVERED, replays=int(record.get("replays", "0"))))
            if name == "conflict":  # it spoke of one message only
                assert answer == Granted(is_first=False)
            elif "ending" in record:
                assert isinstance(answer, Concluded), name
                assert answer.ending.to_record() == json.loads(record["ending"])
            elif "token" in record:  # it ran out without a word
                assert answer == Granted(is_first=False, last_sent_at=THEN + 60), name
            else:
                sent = record.get("sent")
                assert answer == Granted(is_first=False, last_sent_at=float(sent) if sent else None), name
        living = OLD["dcs-worker:{p/claimed}"] | {"until": str(int(time.time() * 1000) + 30_000)}
        await client.hset("dcs-worker:{p/living}", mapping=living)
        assert await claims.take(old_order("living"), NOW, REDELIVERED) == ClaimedElsewhere(living["fingerprint"])
    assert reported.records == []
