"""Endings in a real Redis, with two replicas: which one stays, and what a replay by an operator changes."""

from dataclasses import replace

import pytest

from tests.fakes.servers import RedisServer
from tests.live.redis_replicas import DONE, NOW, ending, migration, operator, replica, two_replicas
from worker.claims.scripts import record_key
from worker.policy.outcome import ClaimedElsewhere, Completed, Concluded, Granted


async def test_concluded_request_answers_every_replica(redis_node: RedisServer) -> None:
    """The outcome is returned whole, to the same and to another replica, and is kept for 7 days."""
    done = ending(migration(), "é-" + "i" * 500)
    async with two_replicas(redis_node.url) as (one, other), operator(redis_node) as client:
        await one.take(migration(), NOW)
        await one.conclude(migration(), done)
        assert not one.is_held(migration())
        assert [await claims.take(migration(), NOW) for claims in (one, other)] == [Concluded(done)] * 2
        assert 7 * 86400 - 60 < await client.ttl(record_key(migration())) <= 7 * 86400


FAILED, FAILED_LATER = ending(migration(), None), ending(migration(), None, at=NOW + 1)
DONE_LATER = ending(migration(), "i-2")
REPLAYED = ending(migration(), None, replays=1)
DONE_AGAIN = ending(migration(), "i-3", replays=1)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (DONE, DONE_LATER, DONE),
        (DONE, FAILED, DONE),
        (FAILED, FAILED_LATER, FAILED),
        (FAILED, DONE, FAILED),
        (FAILED, REPLAYED, REPLAYED),
        (REPLAYED, FAILED, REPLAYED),
        (DONE, REPLAYED, DONE),
        (REPLAYED, DONE, REPLAYED),
        (FAILED, DONE_AGAIN, DONE_AGAIN),
    ],
)
async def test_first_ending_stays_unless_a_later_replay_replaces_a_failure(
    redis_node: RedisServer, first: Completed, second: Completed, kept: Completed
) -> None:
    """The first outcome stays, because it may have been published; any replaces a failure of fewer replays."""
    async with two_replicas(redis_node.url) as (one, other):
        assert await one.conclude(migration(), first) == first
        assert await other.conclude(migration(), second) == kept
        assert await one.take(migration(), NOW) == Concluded(kept)


async def test_replay_reopens_failed_request(redis_node: RedisServer) -> None:
    """A request that an operator sent again after it failed is claimed, knowing that nothing was sent since."""
    failed = ending(migration(), None, at=NOW - 100)
    async with two_replicas(redis_node.url) as (one, other):
        await one.conclude(migration(), failed)
        answer = await one.take(migration(), NOW, replays=1)
        assert isinstance(answer, Granted)
        assert not answer.is_first
        assert answer.last_sent_at == pytest.approx(NOW - 100, abs=0.001)
        assert await other.take(migration(), NOW) == ClaimedElsewhere(migration().fingerprint)
        await other.conclude(migration(), failed)  # told again, late
        assert await other.take(migration(), NOW, replays=1) == ClaimedElsewhere(migration().fingerprint)
        await one.conclude(migration(), REPLAYED)
        assert await other.take(migration(), NOW) == Concluded(REPLAYED)


async def test_replay_does_not_reopen_success(redis_node: RedisServer) -> None:
    """A request that succeeded is over, however often it is sent again."""
    async with replica(redis_node.url) as claims:
        await claims.conclude(migration(), DONE)
        assert await claims.take(migration(), NOW, replays=3) == Concluded(DONE)


async def test_request_too_long_to_store_is_released(redis_node: RedisServer) -> None:
    """An outcome that is too large is not stored: a copy looks up first, as after a release."""
    long = replace(DONE, body=b"x" * 70000)
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW)
        await one.conclude(migration(), long)
        assert await other.take(migration(), NOW) == Granted(is_first=False)


async def test_other_request_with_same_id_changes_nothing(redis_node: RedisServer) -> None:
    """While the first request of an id is known, a different one is reported as a conflict and stores nothing."""
    first, imposter = migration(), migration(name="another")
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(first, NOW)
        assert await other.take(imposter, NOW) == ClaimedElsewhere(first.fingerprint)
        await one.release(first, None)
        assert await other.take(imposter, NOW) == ClaimedElsewhere(first.fingerprint)
        await other.conclude(imposter, ending(imposter, "i-9"))
        await other.release(imposter, NOW)
        assert await one.take(first, NOW) == Granted(is_first=False)
        await one.conclude(first, FAILED)
        await other.conclude(imposter, ending(imposter, "i-9"))
        assert await other.take(imposter, NOW) == Concluded(FAILED)
