"""Endings in a real Redis, with two replicas: which one stays, and what a replay by an operator changes."""

from dataclasses import replace

import pytest

from schemas.envelope import Envelope
from schemas.event import Reason
from tests.fakes.servers import RedisServer
from tests.live.redis_replicas import (
    DONE,
    NOW,
    REDELIVERED,
    ending,
    migration,
    operator,
    received_at,
    replica,
    two_replicas,
)
from worker.claims.parked_records import parked_records
from worker.claims.scripts import record_key
from worker.pipeline import final_events
from worker.policy.outcome import ClaimedElsewhere, ClaimsAwayError, Completed, Concluded, Granted


async def test_concluded_request_answers_every_replica(redis_node: RedisServer) -> None:
    """The outcome is returned whole, to the same and to another replica, and is kept for 7 days."""
    done = ending(migration(), "é-" + "i" * 500)
    async with two_replicas(redis_node.url) as (one, other), operator(redis_node) as client:
        await one.take(migration(), NOW, REDELIVERED)
        await one.conclude(migration(), done)
        assert not one.is_claimed(migration())
        assert [await claims.take(migration(), NOW, REDELIVERED) for claims in (one, other)] == [Concluded(done)] * 2
        assert 7 * 86400 - 60 < await client.ttl(record_key(migration())) <= 7 * 86400


FAILED, FAILED_LATER = ending(migration(), None), ending(migration(), None, at=NOW + 1)
PARKED_FIRST = final_events.failed(migration(), Envelope(1, 0, 1, 0, 0, NOW, None, False, False), Reason.POISON, NOW)
DONE_LATER = ending(migration(), "i-2")
REPLAYED = ending(migration(), None, replays=1)
DONE_AGAIN = ending(migration(), "i-3", replays=1)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (DONE, DONE_LATER, DONE),
        (DONE, FAILED, DONE),
        (FAILED, FAILED_LATER, FAILED_LATER),
        (FAILED, DONE, DONE),
        (PARKED_FIRST, FAILED, PARKED_FIRST),
        (PARKED_FIRST, DONE, PARKED_FIRST),
        (PARKED_FIRST, REPLAYED, REPLAYED),
        (FAILED, REPLAYED, REPLAYED),
        (REPLAYED, FAILED, REPLAYED),
        (DONE, REPLAYED, DONE),
        (REPLAYED, DONE, DONE),
        (FAILED, DONE_AGAIN, DONE_AGAIN),
    ],
)
async def test_first_ending_stays_unless_a_later_replay_replaces_a_failure(
    redis_node: RedisServer, first: Completed, second: Completed, kept: Completed
) -> None:
    """A success or parked failure stays, because it may have been published; any replaces another failure."""
    async with two_replicas(redis_node.url) as (one, other):
        assert await one.conclude(migration(), first) == first
        assert await other.conclude(migration(), second) == kept
        assert await one.take(migration(), NOW, REDELIVERED) == Concluded(kept)


async def test_replay_reopens_failed_request(redis_node: RedisServer) -> None:
    """A request that an operator sent again after it failed is claimed, knowing that nothing was sent since."""
    failed = ending(migration(), None, at=NOW - 100)
    async with two_replicas(redis_node.url) as (one, other):
        await one.conclude(migration(), failed)
        answer = await one.take(migration(), NOW, replace(REDELIVERED, replays=1))
        assert isinstance(answer, Granted)
        assert not answer.is_first
        assert answer.last_sent_at == pytest.approx(NOW - 100, abs=0.001)
        assert await other.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)
        await other.conclude(migration(), failed)  # told again, late
        assert await other.take(migration(), NOW, replace(REDELIVERED, replays=1)) == ClaimedElsewhere(
            migration().fingerprint
        )
        await one.conclude(migration(), REPLAYED)
        assert await other.take(migration(), NOW, REDELIVERED) == Concluded(REPLAYED)


async def test_replay_does_not_reopen_success(redis_node: RedisServer) -> None:
    """A request that succeeded is over, however often it is sent again."""
    async with replica(redis_node.url) as claims:
        await claims.conclude(migration(), DONE)
        assert await claims.take(migration(), NOW, replace(REDELIVERED, replays=3)) == Concluded(DONE)


async def test_request_too_long_to_store_is_released(redis_node: RedisServer) -> None:
    """An outcome that is too large is not stored: a copy looks up first, as after a release."""
    long = replace(DONE, body=b"x" * 70000)
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW, REDELIVERED)
        await one.conclude(migration(), long)
        assert await other.take(migration(), NOW, REDELIVERED) == Granted(is_first=False)


async def test_other_request_with_same_id_changes_nothing(redis_node: RedisServer) -> None:
    """While the first request of an id is known, a different one is reported as a conflict and stores nothing."""
    first, imposter = migration(), migration(name="another")
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(first, NOW, REDELIVERED)
        assert await other.take(imposter, NOW, REDELIVERED) == ClaimedElsewhere(first.fingerprint)
        await one.release(first, None)
        assert await other.take(imposter, NOW, REDELIVERED) == ClaimedElsewhere(first.fingerprint)
        await other.conclude(imposter, ending(imposter, "i-9"))
        await other.release(imposter, NOW)
        assert await one.take(first, NOW, REDELIVERED) == Granted(is_first=False)
        await one.conclude(first, FAILED)
        await other.conclude(imposter, ending(imposter, "i-9"))
        assert await other.take(imposter, NOW, REDELIVERED) == Concluded(FAILED)


async def test_later_message_claims_failed_request(redis_node: RedisServer) -> None:
    """Also for another task; one that had arrived before the failure is answered with it, until then."""
    corrected = migration(name="corrected")
    failed = ending(migration(), None, at=NOW - 100)
    async with two_replicas(redis_node.url) as (one, other):
        await one.conclude(migration(), failed)
        assert await other.take(migration(), NOW, received_at(NOW - 101)) == Concluded(failed)
        assert await other.take(corrected, NOW, received_at(NOW - 101)) == Concluded(failed)
        assert await other.take(corrected, NOW, received_at(NOW - 1)) == Granted(is_first=False)
        assert other.is_claimed(corrected)
        assert await one.take(migration(), NOW, received_at(NOW)) == ClaimedElsewhere(corrected.fingerprint)
        await other.conclude(corrected, DONE_CORRECTED)
        assert await one.take(migration(), NOW, received_at(NOW)) == Concluded(DONE_CORRECTED)


async def test_late_failure_keeps_what_was_sent_for_a_later_message(redis_node: RedisServer) -> None:
    """Redis can hear of a failure when another replica works on a later message: its create must stay known."""
    failed = ending(migration(), None, at=NOW - 100)
    async with two_replicas(redis_node.url) as (one, other):
        await other.take(migration(), NOW, received_at(NOW - 1))
        await one.conclude(migration(), failed)
        assert await one.take(migration(), NOW, REDELIVERED) == Concluded(failed)
        assert await one.take(migration(), NOW, received_at(NOW)) == Granted(is_first=False, last_sent_at=NOW)
        await one.release(migration(), None)

        await other.take(migration(), NOW, received_at(NOW - 1))
        await one.conclude(migration(), failed)
        await other.release(migration(), NOW + 30)
        assert await one.take(migration(), NOW + 30, received_at(NOW)) == Granted(is_first=False, last_sent_at=NOW + 30)
        await one.release(migration(), None)
        await one.conclude(migration(), failed)
        answer = await other.take(migration(), NOW + 30, received_at(NOW))
        assert answer == Granted(is_first=False, last_sent_at=NOW + 30)


DONE_CORRECTED = ending(migration(name="corrected"))


async def test_conflict_leaves_nothing(redis_node: RedisServer) -> None:
    """The id belongs to another request, which must not be refused because of it."""
    owner, imposter = migration(), migration(name="imposter")
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(imposter, NOW, REDELIVERED)
        conflict = final_events.conflicting(imposter, Envelope(0, 0, 1, 0, 0, NOW, None, False, False), NOW)
        assert await one.conclude(imposter, conflict) == conflict
        assert not one.is_claimed(imposter)
        assert await other.take(owner, NOW, REDELIVERED) == Granted()
        await one.conclude(imposter, conflict)  # told again, late: the claim of the owner stays
        assert await one.take(owner, NOW, REDELIVERED) == ClaimedElsewhere(owner.fingerprint)


PARKED = final_events.failed(migration(), Envelope(1, 0, 1, 0, 1, NOW, None, False, False), Reason.FORBIDDEN, NOW)


@pytest.mark.parametrize(
    ("stored", "replays", "is_deleted"),
    [(PARKED, 1, True), (PARKED, 2, True), (PARKED, 0, False), (DONE, 1, False), (FAILED, 1, False), (None, 1, False)],
    ids=["parked", "fewer replays", "more replays", "success", "failure that is not parked", "claim"],
)
async def test_only_record_of_parked_request_is_deleted(
    redis_node: RedisServer, stored: Completed | None, replays: int, is_deleted: bool
) -> None:
    """A replay or drop must not delete what another replica has done since."""
    async with replica(redis_node.url) as claims, operator(redis_node) as client:
        if stored is None:
            await claims.take(migration(), NOW, REDELIVERED)
        else:
            await claims.conclude(migration(), stored)
        async with parked_records(redis_node.url) as forget:
            await forget(migration(), replays)
        assert bool(await client.exists(record_key(migration()))) is not is_deleted


async def test_records_of_redis_that_is_away_are_not_deleted(redis_node: RedisServer) -> None:
    """The command says why, whether Redis was never there or goes in between."""
    with pytest.raises(ClaimsAwayError, match="cannot be reached"):
        async with parked_records("redis://127.0.0.1:1/0") as forget:
            await forget(migration(), 0)
    async with operator(redis_node) as client, parked_records(redis_node.url) as forget:
        await forget(migration(), 0)
        await client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(ClaimsAwayError):
            await forget(migration(), 0)
