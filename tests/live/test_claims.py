"""Claims in a real Redis, with two replicas: which replica is granted a request, and what the others learn."""

import asyncio
import time
from collections import Counter

import pytest

from schemas import event
from schemas.last_error import LastError
from tests.fakes.servers import RedisServer
from tests.live.redis_replicas import (
    DONE,
    LEASE,
    NOW,
    REDELIVERED,
    RecordingObserver,
    migration,
    operator,
    replica,
    take_until_granted,
    two_replicas,
    until,
)
from worker.claims.scripts import MEMORY_KEY, record_key
from worker.policy.outcome import ClaimedElsewhere, Granted


async def test_one_of_many_concurrent_claims_is_granted(redis_node: RedisServer) -> None:
    """Of 100 concurrent claims by two replicas one is granted; all others learn who holds it."""
    async with two_replicas(redis_node.url) as replicas:
        answers = Counter(
            await asyncio.gather(*(replicas[i % 2].take(migration(), NOW, REDELIVERED) for i in range(100)))
        )
    assert answers == {Granted(is_first=True): 1, ClaimedElsewhere(migration().fingerprint): 99}


async def test_each_request_has_a_separate_claim(redis_node: RedisServer) -> None:
    """Two replicas that ask for the same 50 requests at once share them out, none twice."""
    orders = [migration(f"r-{number}") for number in range(50)]
    async with two_replicas(redis_node.url) as (one, other):
        answers = await asyncio.gather(
            *(claims.take(one_of, NOW, REDELIVERED) for one_of in orders for claims in (one, other))
        )
        held = [(one.is_claimed(one_of), other.is_claimed(one_of)) for one_of in orders]
    assert sum(isinstance(answer, Granted) for answer in answers) == 50
    assert all(sum(pair) == 1 for pair in held)


async def test_claim_of_dead_replica_expires(redis_node: RedisServer) -> None:
    """A claim that is not renewed is granted to another replica after its lease; a create may be in flight then."""
    async with replica(redis_node.url) as other:
        async with replica(redis_node.url) as dead:
            started_at = time.monotonic()
            assert isinstance(await dead.take(migration(), NOW, REDELIVERED), Granted)
        assert isinstance(await other.take(migration(), NOW, REDELIVERED), ClaimedElsewhere)
        assert await take_until_granted(other, migration(), NOW + 7) == Granted(is_first=False, last_sent_at=NOW + 7)
        assert time.monotonic() - started_at >= LEASE * 0.95


async def test_held_claim_is_renewed(redis_node: RedisServer) -> None:
    """A claim is held beyond its lease while its replica lives."""
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW, REDELIVERED)
        end = time.monotonic() + 2.5 * LEASE
        while time.monotonic() < end:
            assert one.is_claimed(migration())
            assert isinstance(await other.take(migration(), NOW, REDELIVERED), ClaimedElsewhere)
            await asyncio.sleep(0.05)


async def test_frozen_process_loses_its_claim(redis_node: RedisServer) -> None:
    """The lease counts from before the call, also when this process slept until after the answer."""
    times = [1000.0]
    async with replica(redis_node.url, lease=30.0, clock=lambda: times[-1]) as claims, operator(redis_node) as client:
        await client.execute_command("CLIENT", "PAUSE", "200")
        taking = asyncio.create_task(claims.take(migration(), NOW, REDELIVERED))
        await asyncio.sleep(0)
        times.append(1030.0)
        assert isinstance(await taking, Granted)
        assert not claims.is_claimed(migration())
        times.append(1024.9)
        assert claims.is_claimed(migration())


@pytest.mark.parametrize("last_sent_at", [None, NOW - 30.125], ids=["never sent", "sent"])
async def test_released_claim_is_granted_with_its_state(redis_node: RedisServer, last_sent_at: float | None) -> None:
    """The next owner learns that the request was seen before, and when a create may have been in flight."""
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW, REDELIVERED)
        await one.release(migration(), last_sent_at)
        assert not one.is_claimed(migration())
        assert await other.take(migration(), NOW, REDELIVERED) == Granted(is_first=False, last_sent_at=last_sent_at)
        assert await one.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)


async def test_release_keeps_later_create_time(redis_node: RedisServer) -> None:
    """A replica that sent no create does not overwrite the create time of one that did."""
    async with two_replicas(redis_node.url) as (one, other):
        for claims, last_sent_at in ((one, NOW), (other, None), (one, NOW - 60)):
            await claims.take(migration(), NOW, REDELIVERED)
            await claims.release(migration(), last_sent_at)
        assert await other.take(migration(), NOW, REDELIVERED) == Granted(is_first=False, last_sent_at=NOW)


async def test_release_without_claim_leaves_record(redis_node: RedisServer) -> None:
    """A replica that worked without a claim records when it may have sent, so that a copy is not the first."""
    async with two_replicas(redis_node.url) as (one, other):
        await one.release(migration(), NOW - 1)
        assert await other.take(migration(), NOW, REDELIVERED) == Granted(is_first=False, last_sent_at=NOW - 1)


async def test_release_frees_only_own_claim(redis_node: RedisServer) -> None:
    """A replica that does not hold the claim cannot free it."""
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW, REDELIVERED)
        await other.release(migration(), None)
        assert await other.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)


async def test_second_claim_of_same_replica_is_granted(redis_node: RedisServer) -> None:
    """A request that this replica holds is granted to it again, and stays held."""
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW, REDELIVERED)
        assert await one.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)
        assert one.is_claimed(migration())
        assert isinstance(await other.take(migration(), NOW, REDELIVERED), ClaimedElsewhere)


async def test_claim_whose_answer_was_lost_can_be_claimed_again(redis_node: RedisServer) -> None:
    """A cancelled take leaves nothing behind here; in Redis it counts as a claim whose owner was lost."""
    async with replica(redis_node.url) as claims, operator(redis_node) as client:
        taking = asyncio.create_task(claims.take(migration(), NOW, REDELIVERED))
        await asyncio.sleep(0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        async with asyncio.timeout(5):
            while not await client.exists(record_key(migration())):
                await asyncio.sleep(0.01)
        assert not claims.is_claimed(migration())
        assert await claims.take(migration(), NOW, REDELIVERED) == Granted(is_first=False, last_sent_at=NOW)


async def test_young_memory_leaves_doubt(redis_node: RedisServer) -> None:
    """With a new or emptied Redis every request counts as seen before."""
    reported = RecordingObserver()
    async with replica(redis_node.url, reported, min_memory_age=600.0) as claims, operator(redis_node) as client:
        assert reported.doubts == [600.0]
        assert await claims.take(migration("r-1"), time.time(), REDELIVERED) == Granted(is_first=False)
        await client.set(MEMORY_KEY, int(time.time()) - 601)
        assert await claims.take(migration("r-2"), time.time(), REDELIVERED) == Granted(is_first=True)
        await client.flushall()
        assert await claims.take(migration("r-3"), time.time(), REDELIVERED) == Granted(is_first=False)
        await until(lambda: len(reported.doubts) == 2)
        assert reported.available == [True]


async def test_stored_records_are_small_and_without_secrets(redis_node: RedisServer) -> None:
    """A record holds no network ids, marker or description, only names, times and the published event."""
    async with replica(redis_node.url) as claims, operator(redis_node) as client:
        await claims.take(migration(), NOW, REDELIVERED)
        claim = await client.hgetall(record_key(migration()))
        assert set(claim) == {b"fingerprint", b"token", b"until", b"replays"}
        await claims.conclude(migration(), DONE)
        record = await client.hgetall(record_key(migration()))
        assert set(record) == {b"fingerprint", b"ending", b"succeeded", b"replays"}
        assert sorted(await client.keys("*")) == [MEMORY_KEY, record_key(migration())]
    assert event.SUCCEEDED_TYPE not in str(record)


async def test_conflict_is_granted_to_other_replicas_until_the_request_ends(redis_node: RedisServer) -> None:
    """A later release by a replica that knows of none does not take it away."""
    conflict = LastError("exists already", 409, error_msg="exists", is_conflict=True)
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW, REDELIVERED)
        await one.release(migration(), NOW - 1, conflict)
        await other.release(migration(), None)
        granted = await other.take(migration(), NOW, REDELIVERED)
        assert granted == Granted(is_first=False, last_sent_at=NOW - 1, last_error=conflict)
