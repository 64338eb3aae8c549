"""Claims: granted, held elsewhere, unavailable and lost ones, and the locks that replace them."""

import asyncio
from dataclasses import replace

import pytest

from tests.pipeline.bench import Bench
from tests.pipeline.fakes import (
    BUSY,
    NOW,
    FakeClaims,
    FakeDelivery,
    copy_headers,
    request,
)
from worker.pipeline.claims_or_locks import ClaimsOrLocks
from worker.pipeline.pipeline import RequestParser
from worker.policy.call_result import TaskCreated
from worker.policy.migration_request import MigrationRequest
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


@pytest.mark.parametrize(("create", "outcome"), [(TaskCreated("i-1"), "created"), (BUSY, "400")])
async def test_unavailable_claims_are_replaced_by_broker_lock(create: object, outcome: str) -> None:
    """The request is looked up under the lock, and the lock is freed after any outcome."""
    locks = FakeLocks()
    claims = ClaimsOrLocks(FakeClaims(Unavailable(), held=False), locks, quiet=0.0)
    bench = Bench(create=[create], claims=claims)
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls[:2] == ["find", "create"]
    assert (bench.observer.outcomes[0][1], locks.recorded) == (outcome, ["take", "free"])
    assert repr(claims).endswith("0 locks>")


async def test_request_locked_elsewhere_waits_for_listing_delay() -> None:
    """Another replica may be creating right now; with claims that answer no lock is asked for."""
    locks = FakeLocks(is_available=False)
    bench = Bench(claims=ClaimsOrLocks(FakeClaims(Unavailable(), held=False), locks, quiet=0.0))
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    assert (bench.dcs.calls, copy.headers["x-round"]) == ([], 0)
    assert copy.headers["x-last-sent-at"] == "2027-01-15T08:00:00.000Z"
    granted = Bench(claims=ClaimsOrLocks(FakeClaims(), locks, quiet=0.0))
    await granted.deliver(FakeDelivery())
    assert (granted.dcs.calls, locks.recorded) == (["create"], ["take"])


async def test_deliveries_after_loss_of_claims_wait_for_listing_delay() -> None:
    """A create that began under a claim may be in flight; from the first answer on that is over."""
    clock, inner = [0.0], FakeClaims(Unavailable(), held=False)
    claims = ClaimsOrLocks(inner, FakeLocks(), quiet=35.0, clock=lambda: clock[0])
    bench = Bench(claims=claims)
    for moment, name in ((100.0, "a"), (134.0, "b"), (136.0, "c")):
        clock[0] = moment
        await bench.deliver(FakeDelivery(request(request_id=name)))
    inner.answer = Granted()
    await bench.deliver(FakeDelivery(request(request_id="d")))
    assert [reason for _, reason in bench.observer.outcomes] == ["claimed", "claimed", "created", "created"]


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


@pytest.mark.parametrize("answer", [Unavailable(), Granted()])
async def test_uncertain_claim_needs_lookup_before_every_create(answer: Unavailable | Granted) -> None:
    """Redis is unavailable, or the claim expired meanwhile: the replica goes on, with a look-up before every create."""
    bench = Bench(create=[BUSY, TaskCreated("i-1")], claims=FakeClaims(answer, held=False))
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
        claims.held = False
        return await is_ours()

    delivery.is_still_ours = lose_the_claim  # type: ignore[method-assign]
    await bench.deliver(delivery)
    assert bench.dcs.calls == ["find", "create"]


async def test_known_outcome_precedes_poison() -> None:
    """A request that succeeded is reported so, after any number of lost channels."""
    policy = RetryPolicy(delivery_limit=3)
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
        async def take(
            self, migration: MigrationRequest, now: float, replays: int = 0, arrived_at: float | None = None
        ) -> ClaimAnswer:
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
