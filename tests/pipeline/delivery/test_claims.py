"""Claims: granted, claimed elsewhere, unavailable and lost ones, and the locks that replace them."""

import asyncio
from dataclasses import replace

import pytest

from schemas.envelope import Envelope
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import (
    BUSY,
    NOW,
    FakeClaims,
    FakeConsumer,
    FakeDelivery,
    copy_headers,
    request,
)
from worker.pipeline.ports import CLAIMS_AWAY
from worker.policy.call_result import TaskCreated
from worker.policy.migration_request import MigrationRequest, RequestParser
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Concluded, Granted, Unavailable
from worker.policy.retry_policy import RetryPolicy


async def test_granted_claim_is_concluded_before_event() -> None:
    """The outcome is stored for every replica before the event is published."""
    claims = FakeClaims()
    bench = Bench(claims=claims)
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create"]
    assert [what for what, _ in claims.recorded] == ["conclude"]


async def test_claim_that_was_held_before_is_looked_up_first() -> None:
    """The former holder may have created; the claim has the time of its last create."""
    claims = FakeClaims(Granted(is_first=False, last_sent_at=NOW))
    bench = Bench(claims=claims)
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find"]
    assert bench.observer.outcomes == [("retried", "settle")]
    assert claims.recorded == [("release", NOW)]


async def test_request_claimed_elsewhere_waits_without_using_retry_level() -> None:
    """A copy of a claimed request goes to the first retry level."""
    bench = Bench(claims=FakeClaims(ClaimedElsewhere(_fingerprint())))
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    assert (bench.dcs.calls, copy.retry_level, copy.headers["x-round"]) == ([], 1, 0)


class FakeLocks:
    """A broker that keeps locks for one replica after another."""

    def __init__(self, *, is_available: bool = True) -> None:
        self.is_available = is_available
        self.recorded: list[str] = []

    async def take(self, key: tuple[str, str]) -> bool:
        """Take the lock if it is free."""
        self.recorded.append("take")
        return self.is_available

    async def free(self, key: tuple[str, str]) -> None:
        """Give it back."""
        self.recorded.append("free")


async def test_replica_without_redis_looks_up_first_and_locks_repeats() -> None:
    """As without claims, but with a look-up before each create: a first delivery is not locked, Redis hears nothing."""
    locks, claims = FakeLocks(), FakeClaims(Unavailable())
    bench = Bench(create=[BUSY, BUSY, BUSY, TaskCreated("i-1")], claims=claims, locks=locks)
    await bench.deliver(FakeDelivery())
    assert (bench.dcs.calls[:2], locks.recorded) == (["find", "create"], [])
    await bench.deliver(FakeDelivery(headers=copy_headers()))
    assert (bench.observer.outcomes[1][1], locks.recorded) == ("created", ["take"])
    assert claims.recorded == []


async def test_locked_repeat_waits_while_redis_is_away() -> None:
    """Another replica may be creating right now."""
    bench = Bench(claims=FakeClaims(Unavailable()), locks=FakeLocks(is_available=False))
    await bench.deliver(FakeDelivery(headers=copy_headers()))
    (copy,) = bench.publisher.published
    assert (bench.dcs.calls, copy.headers["x-round"]) == ([], 1)
    assert copy.headers["x-last-sent-at"] == "2027-01-15T08:00:00.000Z"


PAUSE = RetryPolicy(claims_away="pause")


async def test_request_is_handed_back_to_cancelled_consumer_while_redis_is_away() -> None:
    """WORKER_CLAIMS_AWAY=pause: no call, and the consumer is cancelled before the copy is published."""
    consumer = FakeConsumer()
    bench = Bench(PAUSE, claims=FakeClaims(Unavailable()), locks=FakeLocks(), consumer=consumer)
    published_at_pause: list[int] = []
    consumer.on_pause = lambda: published_at_pause.append(len(bench.publisher.published))
    delivery = FakeDelivery()
    await bench.deliver(delivery)
    assert (bench.dcs.calls, [copy.what for copy in bench.publisher.published]) == ([], ["hand_back"])
    assert (consumer.recorded, published_at_pause) == ([f"pause {CLAIMS_AWAY}"], [0])
    assert (bench.observer.outcomes, delivery.done) == ([("returned", "claims")], ["ack"])


@pytest.mark.parametrize("lost_at", ["claimed", "looked up", "ready to be sent"])
async def test_no_create_begins_after_claim_is_lost(lost_at: str) -> None:
    """WORKER_CLAIMS_AWAY=pause: at whatever step, the request is handed back and its claim released."""
    asked = iter({"claimed": (), "looked up": (True, True), "ready to be sent": (True, True, True)}[lost_at])

    class LosesClaim(FakeClaims):
        def is_claimed(self, migration: MigrationRequest) -> bool:
            return next(asked, False)

    claims = LosesClaim()
    bench = Bench(PAUSE, claims=claims, locks=FakeLocks())
    await bench.deliver(FakeDelivery())
    assert "create" not in bench.dcs.calls
    assert bench.observer.outcomes == [("returned", "claims")]
    assert claims.recorded == [("release", None)]
    assert bench.publisher.published[-1].what == "hand_back"


async def test_request_that_waits_for_a_permit_is_handed_back_when_redis_goes_away() -> None:
    """WORKER_CLAIMS_AWAY=pause: at once, and not at its turn; the call under way goes on."""
    claims, answered = FakeClaims(), asyncio.Event()
    bench = Bench(PAUSE, create=[answered, TaskCreated("i-1")], claims=claims, locks=FakeLocks())
    first, waiting = FakeDelivery(), FakeDelivery(request(request_id="r-2"))
    bench.dispatcher.deliver(first)
    bench.dispatcher.deliver(waiting)  # until the credentials were accepted one call is under way
    while not bench.dcs.created:
        await asyncio.sleep(0)
    claims.answer, claims.claimed = Unavailable(), False
    bench.throttle.send_away("claims")
    async with asyncio.timeout(1):
        while not waiting.done:
            await asyncio.sleep(0)
    assert (bench.observer.outcomes, bench.consumer.recorded) == ([("returned", "claims")], [f"pause {CLAIMS_AWAY}"])
    assert not first.done
    answered.set()
    await bench.idle()
    assert bench.observer.outcomes[1:] == [("succeeded", "created")]


async def test_call_under_way_is_settled_while_redis_is_away() -> None:
    """WORKER_CLAIMS_AWAY=pause: the call ends, its event is published, and its outcome is left for Redis."""
    claims, answered = FakeClaims(), asyncio.Event()
    bench = Bench(PAUSE, create=[answered, TaskCreated("i-1")], claims=claims, locks=FakeLocks())
    bench.dispatcher.deliver(FakeDelivery())
    while not bench.dcs.created:
        await asyncio.sleep(0)
    claims.answer, claims.claimed = Unavailable(), False
    answered.set()
    await bench.idle()
    assert bench.publisher.events[0]["resolution"] == "created"
    assert [what for what, _ in claims.recorded] == ["conclude"]


async def test_reply_about_one_record_does_not_pause() -> None:
    """WORKER_CLAIMS_AWAY=pause, and Redis answers others: the request waits without using a retry level."""

    class OddRecord(FakeClaims):
        is_available = True

    consumer = FakeConsumer()
    bench = Bench(PAUSE, claims=OddRecord(Unavailable()), consumer=consumer)
    await bench.deliver(FakeDelivery())
    assert (bench.dcs.calls, bench.observer.outcomes, consumer.recorded) == ([], [("retried", "claimed")], [])


async def test_claim_for_another_task_is_conflict() -> None:
    """The same id with a different task is refused while the first is worked on elsewhere."""
    bench = Bench(claims=FakeClaims(ClaimedElsewhere("other")))
    await bench.deliver(FakeDelivery())
    assert bench.publisher.events[0]["reason"] == "conflict"


async def test_outcome_of_another_replica_is_published_again() -> None:
    """The outcome of another replica is published unchanged; one for another task is a conflict."""
    claims = FakeClaims()
    await Bench(claims=claims).deliver(FakeDelivery())
    completed = claims.recorded[0][1]
    assert isinstance(completed, Completed)
    for fingerprint, expected in ((completed.fingerprint, "succeeded"), ("other", "failed")):
        other = replace(completed, fingerprint=fingerprint)
        replica = Bench(claims=FakeClaims(Concluded(other)))
        await replica.deliver(FakeDelivery())
        assert replica.dcs.calls == []
        assert replica.observer.outcomes[0][0] == expected


async def test_uncertain_claim_needs_lookup_before_every_create() -> None:
    """The claim expired meanwhile: the replica goes on, with a look-up before every create."""
    bench = Bench(create=[BUSY, TaskCreated("i-1")], claims=FakeClaims(claimed=False))
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create", "find", "create"]


async def test_conflicting_request_does_not_block_claimed_request() -> None:
    """Another task under a claimed id is rejected; the claimed request is processed afterwards."""
    claims = FakeClaims(ClaimedElsewhere(_fingerprint()))
    bench = Bench(claims=claims)
    other = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    await bench.deliver(FakeDelivery(request(task=other)))
    claims.answer = Granted()
    await bench.deliver(FakeDelivery())
    assert bench.observer.outcomes == [("failed", "conflict"), ("succeeded", "created")]


async def test_defect_releases_claim() -> None:
    """After a defect a create may have been sent; others need not wait for the claim to expire."""
    claims = FakeClaims()
    bench = Bench(create=[RuntimeError("defect")], claims=claims)
    await bench.deliver(FakeDelivery())
    assert claims.recorded == [("release", NOW)]


async def test_claim_lost_before_create_needs_lookup() -> None:
    """The create is abandoned, and retried after a look-up."""
    claims = FakeClaims()
    bench = Bench(claims=claims)
    delivery = FakeDelivery()
    is_ours = delivery.is_still_ours

    async def lose_the_claim() -> bool:
        claims.claimed = False
        return await is_ours()

    delivery.is_still_ours = lose_the_claim  # type: ignore[method-assign]
    await bench.deliver(delivery)
    assert bench.dcs.calls == ["find", "create"]


async def test_known_outcome_precedes_poison() -> None:
    """A request that succeeded is reported so, after any number of lost channels."""
    policy = RetryPolicy(reconcile="ambiguous", delivery_limit=3)
    redelivered_headers = copy_headers(interruptions=5) | {"x-delivery-count": 1}
    bench = Bench(policy)
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(headers=redelivered_headers, redelivered=True))
    assert bench.observer.outcomes == [("succeeded", "created")] * 2
    claims = FakeClaims()
    await Bench(claims=claims).deliver(FakeDelivery())
    completed = claims.recorded[0][1]
    assert isinstance(completed, Completed)
    replica = Bench(policy, claims=FakeClaims(Concluded(completed)))
    await replica.deliver(FakeDelivery(headers=redelivered_headers, redelivered=True))
    assert replica.observer.outcomes == [("succeeded", "created")]


async def test_concurrent_conflict_rejects_only_other_task() -> None:
    """Which of two tasks under one id is valid is known when the claim of the other is answered."""
    asked = asyncio.Event()

    class SlowClaims(FakeClaims):
        async def take(self, migration: MigrationRequest, now: float, envelope: Envelope) -> ClaimAnswer:
            await asked.wait()
            return (
                ClaimedElsewhere(_fingerprint()) if migration.fingerprint != _fingerprint() else Granted(is_first=False)
            )

    bench = Bench(claims=SlowClaims())
    other = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    for delivery in (FakeDelivery(request(task=other)), FakeDelivery(headers=copy_headers())):
        bench.dispatcher.deliver(delivery)
    await asyncio.sleep(0.01)
    asked.set()
    await bench.idle()
    assert sorted(reason for _, reason in bench.observer.outcomes) == ["conflict", "created"]


def _fingerprint() -> str:
    return RequestParser(65536, ("cn-north-4",), "cn-north-4").read(request()).fingerprint
