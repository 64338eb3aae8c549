"""Records that version 0.1.0 left in Redis: a replica of today that claims the request learns the same from them."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio as redis

from tests.fakes.servers import RedisServer
from tests.fixtures.frozen import READ_AT, claim_meaning, claimed_order, expected, load
from tests.live.redis_replicas import REDELIVERED, RecordingObserver, received_at, replica
from worker.claims.redis_claims import RedisClaims
from worker.policy.outcome import Concluded, Granted

RECORDS = load("redis")
ASKED = {
    "by_another_replica": (0, None),
    "by_another_replica_after_one_replay": (1, None),
    "for_another_task": (0, "0" * 32),
}
"""Replays by an operator, and the fingerprint if it is another one."""


@pytest.fixture(scope="module")
def node() -> Iterator[RedisServer]:
    """One Redis for all records."""
    with RedisServer() as running:
        yield running


@pytest.fixture
async def database(node: RedisServer) -> AsyncIterator[Any]:
    """Redis as an upgraded replica finds it: it has forgotten nothing since version 0.1.0 ran."""
    client = redis.Redis(port=node.port, single_connection_client=True)
    await client.set(RECORDS["memory"]["key"], RECORDS["memory"]["value"])
    yield client
    await client.aclose()


async def restore(client: Any, record: Mapping[str, Any]) -> None:
    """Put the record back as it was; a claim holds for as long as it had left."""
    seconds, microseconds = await client.time()
    fields = dict(record["fields"])
    if "until" in fields:
        now_ms = seconds * 1000 + microseconds // 1000
        fields["until"] = str(int(fields["until"]) - record["captured_at_ms"] + now_ms)
    await client.delete(record["key"])
    await client.hset(record["key"], mapping=fields)
    await client.pexpire(record["key"], record["ttl_ms"])


async def learnt(claims: RedisClaims, record: Mapping[str, Any], asked: str) -> dict[str, Any]:
    """What a claim on the record's request is answered."""
    replays, fingerprint = ASKED[asked]
    migration = replace(claimed_order(record), not_after=1.0)  # `expired` answers no message that may still be created
    migration = migration if fingerprint is None else replace(migration, fingerprint=fingerprint)
    answer = await claims.take(migration, READ_AT, replace(REDELIVERED, replays=replays))
    return claim_meaning(answer, READ_AT)


@pytest.mark.parametrize("name", sorted(set(RECORDS) - {"memory"}))
async def test_old_record_is_read_with_same_meaning(name: str, node: RedisServer, database: Any) -> None:
    """Held, concluded, released or in doubt, as it was."""
    record, found = RECORDS[name], {}
    for asked in ASKED:
        await restore(database, record)
        async with replica(node.url, lease=30.0) as claims:
            found[asked] = await learnt(claims, record, asked)
    assert found == expected("redis")[name]


@pytest.mark.parametrize("name", sorted(name for name in RECORDS if name.startswith("concluded")))
async def test_old_failure_that_is_not_parked_answers_no_later_message(
    name: str, node: RedisServer, database: Any
) -> None:
    """The request is claimed in place of the old outcome, without a listing delay and without doubt in the record."""
    record, reported = RECORDS[name], RecordingObserver()
    migration = claimed_order(record)
    await restore(database, record)
    async with replica(node.url, reported, lease=30.0) as claims:
        replays = expected("redis")[name]["by_another_replica"]["operator_replays"]
        answer = await claims.take(migration, READ_AT, replace(received_at(READ_AT), replays=replays))
    is_free = name in ("concluded_rejected", "concluded_expired")
    assert answer == Granted(is_first=False) if is_free else isinstance(answer, Concluded)
    assert reported.records == []


async def test_old_memory_record_is_kept(node: RedisServer, database: Any) -> None:
    """A replica of this version continues from the memory that Redis has."""
    async with replica(node.url):
        assert (await database.get(RECORDS["memory"]["key"])).decode() == RECORDS["memory"]["value"]
