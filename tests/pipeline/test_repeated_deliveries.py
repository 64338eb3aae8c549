"""Walk 2: everything that is not the first delivery of its request looks before it creates."""

import asyncio
from dataclasses import replace

import pytest

from schemas.envelope import Envelope
from tests.pipeline.fakes import (
    BUSY,
    NOW,
    REJECTED,
    THROTTLED,
    TIMEOUT,
    Bench,
    FakeClaims,
    FakeDelivery,
    found,
    request,
)
from worker.pipeline.claims_or_locks import ClaimsOrLocks
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.pipeline import RequestParser
from worker.policy.call_result import TaskCreated, TaskNotFound
from worker.policy.claim import ClaimAnswer, Concluded, Granted, Held, Unavailable
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed
from worker.policy.retry_policy import RetryPolicy


def state(round_: int = 1, *, last_sent_at: float | None = None, interruptions: int = 0) -> dict[str, object]:
    """The headers of a copy."""
    return Envelope(1, round_, 2, interruptions, 0, NOW - 1000, last_sent_at, True, False).write({})


async def test_a_copy_is_looked_up_first_despite_forged_headers() -> None:
    """Law 3: even a copy that certainly was never sent is looked for, and then created without a settle time."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers=state()))
    assert bench.dcs.calls == ["find", "create"]


async def test_a_redelivered_message_settles_from_now() -> None:
    """It may still be in flight elsewhere: looked for, then postponed without using the schedule."""
    bench = Bench()
    await bench.deliver(FakeDelivery(redelivered=True, headers={"x-delivery-count": 1}))
    assert bench.dcs.calls == ["find"]
    (copy,) = bench.publisher.published
    assert (copy.place, copy.headers["x-round"], copy.headers["x-interruptions"]) == (2, 0, 1)
    assert copy.headers["x-last-sent-at"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize(("age", "calls"), [(49.0, ["find"]), (50.5, ["find", "create"])])
async def test_the_settle_time_is_kept_with_an_allowance_for_clocks(age: float, calls: list[str]) -> None:
    """45 s and 5 s for clocks that differ: not sooner, and looked for again before the create."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers=state(last_sent_at=NOW - age)))
    assert bench.dcs.calls == calls


async def test_an_unreadable_state_header_counts_as_sent_just_now() -> None:
    """Law 11: what a sender puts in a header never misleads the worker."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers={"x-last-sent-at": b"\xff", "x-round": -3}))
    assert bench.dcs.calls == ["find"]
    assert bench.observer.outcomes == [("retried", "settle")]


async def test_the_end_of_the_schedule_with_certainty_is_exhausted() -> None:
    """A refusal at the last place: no task exists, the request is parked."""
    bench = Bench(create=[BUSY])
    await bench.deliver(FakeDelivery(headers=state(4)))
    (event,) = bench.publisher.events
    assert (event["reason"], event["parked"], event["error"]["error_code"]) == ("exhausted", True, "DCS.4026")


async def test_the_end_of_the_schedule_without_certainty_settles_once_more() -> None:
    """An ambiguous create at the last place is looked for after the settle time before it is exhausted."""
    bench = Bench(RetryPolicy(tries=1), create=[TIMEOUT])
    await bench.deliver(FakeDelivery(headers=state(4)))
    (copy,) = bench.publisher.published
    assert (copy.place, copy.headers["x-round"]) == (2, 5)
    bench.now += 60
    await bench.deliver(FakeDelivery(headers=copy.headers))
    assert bench.dcs.calls == ["find", "create", "find"]
    assert bench.publisher.events[0]["reason"] == "exhausted"


async def test_being_throttled_for_a_day_uses_the_schedule() -> None:
    """Throttling counts against no one, but not for ever."""
    bench = Bench(create=[THROTTLED])
    headers = Envelope(1, 0, 2, 0, 0, NOW - 90_000, None, True, False).write({})
    await bench.deliver(FakeDelivery(headers=headers))
    assert bench.publisher.published[0].headers["x-round"] == 1


async def test_a_copy_that_comes_later_is_answered_with_the_same_event() -> None:
    """The ending is remembered: same id, same body, no call."""
    bench = Bench()
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(correlation_id="other"))
    first, second = bench.publisher.published
    assert (first.event_id, first.body) == (second.event_id, second.body)
    assert second.correlation_id == "other"
    assert bench.dcs.calls == ["create"]


async def test_what_is_being_worked_on_can_be_shown() -> None:
    """By project and request id, for as long as it is."""
    copies, answered = Deduplicator(), asyncio.Event()
    bench = Bench(create=[answered, TaskCreated("i-1")], copies=copies)
    bench.service.deliver(FakeDelivery())
    while not bench.dcs.created:
        await asyncio.sleep(0)
    assert list(copies.flights) == [("p1", "r-1")]
    answered.set()
    await bench.idle()
    assert not copies.flights


async def test_concurrent_copies_make_one_call() -> None:
    """Single flight: four copies, one create, four events of one id."""
    bench = Bench()
    copies = [FakeDelivery() for _ in range(4)]
    await bench.deliver(*copies)
    assert bench.dcs.calls == ["create"]
    assert len({event.event_id for event in bench.publisher.published}) == 1
    assert all(copy.done == ["ack"] for copy in copies)


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_same_id_for_another_task_is_refused(at_once: bool) -> None:
    """Whether the first is still worked on or has ended."""
    bench = Bench()
    task = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    first, second = FakeDelivery(), FakeDelivery(request(task=task))
    if at_once:
        await bench.deliver(first, second)
    else:
        await bench.deliver(first)
        await bench.deliver(second)
    assert sorted(reason for _, reason in bench.observer.outcomes) == ["created", "invalid_request"]
    failed = next(event for event in bench.publisher.events if "reason" in event)
    assert failed["violations"] == [{"field": "request_id", "message": "was used before, for a different task"}]


async def test_a_copy_of_a_postponed_request_waits_beside_it() -> None:
    """What may have been sent for the one may have been sent for the other."""
    bench = Bench(create=[TIMEOUT])
    await bench.deliver(FakeDelivery(), FakeDelivery())
    first, second = bench.publisher.published
    assert first.place == second.place
    assert second.headers["x-last-sent-at"] == first.headers["x-last-sent-at"]
    assert (first.headers["x-round"], second.headers["x-round"]) == (1, 0)


async def test_a_copy_that_comes_while_the_first_waits_in_the_broker_looks_and_settles() -> None:
    """A sender's own repeat is no first delivery here: a create may have been sent for the first."""
    bench = Bench(create=[TIMEOUT, TaskCreated("i-1")])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create", "find", "find"]
    assert bench.observer.outcomes == [("retried", "timeout"), ("retried", "settle")]
    other = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    await bench.deliver(FakeDelivery(request(task=other)))
    assert bench.publisher.events[0]["reason"] == "invalid_request"
    bench.now += 60
    await bench.deliver(FakeDelivery(headers=bench.publisher.published[0].headers))
    assert bench.dcs.calls[-2:] == ["find", "create"]


async def test_a_replayed_request_starts_anew_although_its_failure_is_remembered() -> None:
    """x-replays tells the operator's order from a late copy, and changes the event's id."""
    bench = Bench(create=[REJECTED, TaskCreated("i-1")])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(headers={"x-replays": 1}))
    assert bench.observer.outcomes == [("failed", "rejected"), ("succeeded", "created")]
    await bench.deliver(FakeDelivery(headers={"x-replays": 2}))
    assert bench.dcs.calls == ["create", "find", "create"]


async def test_poison_is_parked_with_an_event_and_no_call() -> None:
    """So many deliveries ended without a word: law 9."""
    bench = Bench(RetryPolicy(delivery_limit=3))
    delivery = FakeDelivery(headers=state(interruptions=2) | {"x-delivery-count": 1}, redelivered=True)
    await bench.deliver(delivery)
    assert bench.dcs.calls == []
    assert bench.publisher.events[0]["reason"] == "poison"
    assert bench.publisher.published[0].headers["x-parked-reason"] == "poison"


async def test_on_stale_ground_nothing_is_called() -> None:
    """Law 5: the delivery is left to the broker, which delivers it again."""
    bench = Bench()
    first, again = FakeDelivery(firm=False), FakeDelivery(headers=state(), firm=False)
    await bench.deliver(first, again)
    assert (bench.dcs.calls, first.done, again.done) == ([], [], [])
    assert bench.observer.outcomes == [("returned", "stale")] * 2


async def test_a_call_in_flight_outlives_its_channel_and_answers_the_redelivery() -> None:
    """The result is kept: the redelivered message is answered from it, without a call."""
    answer = asyncio.Event()
    bench = Bench(create=[answer, TaskCreated("i-1")])
    first = FakeDelivery()
    bench.service.deliver(first)
    await asyncio.sleep(0.01)
    first.lost = True
    again = FakeDelivery(redelivered=True)
    bench.service.deliver(again)
    answer.set()
    await bench.idle()
    assert bench.dcs.calls == ["create"]
    assert (first.done, again.done) == ([], ["ack"])
    assert bench.publisher.events[0]["resolution"] == "created"


async def test_a_redelivery_takes_over_from_an_abandoned_flight() -> None:
    """It settles from the moment the former flight ended, not from its own arrival."""
    gone = asyncio.Event()
    bench = Bench(create=[gone, BUSY, BUSY, TaskCreated("i-1")], find=[TaskNotFound()])
    first = FakeDelivery()
    bench.service.deliver(first)
    await asyncio.sleep(0.01)
    first.lost = True
    again = FakeDelivery(redelivered=True)
    bench.service.deliver(again)
    await asyncio.sleep(0.01)
    bench.now += 7
    gone.set()
    await bench.idle()
    assert bench.dcs.calls == ["create", "find"]
    assert bench.publisher.published[0].headers["x-last-sent-at"] == "2027-01-15T08:00:07.000Z"


async def test_a_granted_claim_is_concluded_before_the_event() -> None:
    """The outcome is stored for every replica before anybody is told."""
    claims = FakeClaims()
    bench = Bench(claims=claims)
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create"]
    assert [what for what, _ in claims.told] == ["conclude"]


async def test_a_claim_that_another_held_before_is_looked_for_first() -> None:
    """The former holder may have created, and says when a create may have been in flight."""
    claims = FakeClaims(Granted(is_first=False, last_sent_at=NOW))
    bench = Bench(claims=claims)
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find"]
    assert bench.observer.outcomes == [("retried", "settle")]
    assert claims.told == [("release", NOW)]


async def test_a_request_claimed_elsewhere_waits_and_spends_nothing() -> None:
    """A copy that meets a live claim goes to the first place of the schedule."""
    bench = Bench(claims=FakeClaims(Held(_fingerprint())))
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    assert (bench.dcs.calls, copy.place, copy.headers["x-round"]) == ([], 1, 0)


class OneLock:
    """A broker that keeps locks for one replica after another."""

    def __init__(self, *, is_free: bool = True) -> None:
        self.is_free = is_free
        self.told: list[str] = []

    async def take(self, key: tuple[str, str]) -> bool:
        """Take the lock if it is free."""
        self.told.append("take")
        return self.is_free

    async def free(self, key: tuple[str, str]) -> None:
        """Give it back."""
        self.told.append("free")


@pytest.mark.parametrize(("create", "outcome"), [(TaskCreated("i-1"), "created"), (BUSY, "400")])
async def test_without_claims_a_lock_of_the_broker_stands_in(create: object, outcome: str) -> None:
    """Looked for under the lock, and the lock is given back whatever comes of it."""
    locks = OneLock()
    claims = ClaimsOrLocks(FakeClaims(Unavailable(), held=False), locks, quiet=0.0)
    bench = Bench(create=[create], claims=claims)
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls[:2] == ["find", "create"]
    assert (bench.observer.outcomes[0][1], locks.told) == (outcome, ["take", "free"])
    assert repr(claims).endswith("0 locks>")


async def test_a_request_locked_elsewhere_waits_and_settles() -> None:
    """Another replica may be creating right now; with claims that answer no lock is asked for."""
    locks = OneLock(is_free=False)
    bench = Bench(claims=ClaimsOrLocks(FakeClaims(Unavailable(), held=False), locks, quiet=0.0))
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    assert (bench.dcs.calls, copy.headers["x-round"]) == ([], 0)
    assert copy.headers["x-last-sent-at"] == "2027-01-15T08:00:00.000Z"
    granted = Bench(claims=ClaimsOrLocks(FakeClaims(), locks, quiet=0.0))
    await granted.deliver(FakeDelivery())
    assert (granted.dcs.calls, locks.told) == (["create"], ["take"])


async def test_deliveries_right_after_claims_went_away_wait_for_the_listing_delay() -> None:
    """A create that began under a claim may be in flight; from the first answer on that is over."""
    clock, inner = [0.0], FakeClaims(Unavailable(), held=False)
    claims = ClaimsOrLocks(inner, OneLock(), quiet=35.0, clock=lambda: clock[0])
    bench = Bench(claims=claims)
    for moment, name in ((100.0, "a"), (134.0, "b"), (136.0, "c")):
        clock[0] = moment
        await bench.deliver(FakeDelivery(request(request_id=name)))
    inner.answer = Granted()
    await bench.deliver(FakeDelivery(request(request_id="d")))
    assert [reason for _, reason in bench.observer.outcomes] == ["claimed", "claimed", "created", "created"]


async def test_a_claim_for_another_task_is_a_conflict() -> None:
    """The same id with a different task is refused while the first is worked on elsewhere."""
    bench = Bench(claims=FakeClaims(Held("other")))
    await bench.deliver(FakeDelivery())
    assert bench.publisher.events[0]["reason"] == "invalid_request"


async def test_an_outcome_of_another_replica_is_published_again() -> None:
    """Another replica's ending is published as it stands; one for another task is a conflict."""
    claims = FakeClaims()
    await Bench(claims=claims).deliver(FakeDelivery())
    ending = claims.told[0][1]
    assert isinstance(ending, Completed)
    for fingerprint, expected in ((ending.fingerprint, "succeeded"), ("other", "failed")):
        other = replace(ending, fingerprint=fingerprint)
        replica = Bench(claims=FakeClaims(Concluded(other)))
        await replica.deliver(FakeDelivery())
        assert replica.dcs.calls == []
        assert replica.observer.outcomes[0][0] == expected


@pytest.mark.parametrize("answer", [Unavailable(), Granted()])
async def test_without_a_sure_claim_every_create_is_preceded_by_a_look(answer: Unavailable | Granted) -> None:
    """Redis away, or a claim that ran out under way: go on, but look before every create."""
    bench = Bench(create=[BUSY, TaskCreated("i-1")], claims=FakeClaims(answer, held=False))
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create", "find", "create"]


async def test_a_conflict_does_not_stand_for_the_true_request() -> None:
    """An imposter that met a live claim is refused, and the true request goes its way afterwards."""
    claims = FakeClaims(Held(_fingerprint()))
    bench = Bench(claims=claims)
    other = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    await bench.deliver(FakeDelivery(request(task=other)))
    claims.answer = Granted()
    await bench.deliver(FakeDelivery())
    assert bench.observer.outcomes == [("failed", "invalid_request"), ("succeeded", "created")]


async def test_a_claim_is_released_when_its_holder_fails() -> None:
    """A defect under a claim: a create may have been sent just now, and the others need not wait for the lease."""
    claims = FakeClaims()
    bench = Bench(create=[RuntimeError("defect")], claims=claims)
    await bench.deliver(FakeDelivery())
    assert claims.told == [("release", NOW)]


async def test_a_claim_that_is_lost_before_the_request_leaves_sends_nothing_unlooked() -> None:
    """What began under a sure claim is given up, and tried again after a look-up."""
    claims = FakeClaims()
    bench = Bench(claims=claims)
    delivery = FakeDelivery()
    firm = delivery.is_still_ours

    async def lose_the_claim() -> bool:
        claims.held = False
        return await firm()

    delivery.is_still_ours = lose_the_claim  # type: ignore[method-assign]
    await bench.deliver(delivery)
    assert bench.dcs.calls == ["find", "create"]


async def test_a_look_up_reaches_back_to_when_the_request_was_first_known() -> None:
    """A redelivery that nobody dated may be old: its own task must not be taken for an older one."""
    dated, undated, copy, claimed = Bench(), Bench(), Bench(create=[TIMEOUT]), Bench(claims=FakeClaims(Granted(False)))
    await dated.deliver(FakeDelivery(headers=state()))
    await undated.deliver(FakeDelivery(redelivered=True))
    await copy.deliver(FakeDelivery())
    copy.now += 600
    await copy.deliver(FakeDelivery())
    await claimed.deliver(FakeDelivery())
    assert [bench.dcs.since[-1] for bench in (dated, undated, copy, claimed)] == [NOW - 1000, 0.0, NOW, 0.0]


async def test_a_late_copy_of_an_ambiguous_request_does_not_expire_unlooked() -> None:
    """Expired only with certainty: what may have been sent for the first copy is looked for."""
    bench = Bench(create=[TIMEOUT], find=[TaskNotFound(), found()])
    body = request(not_after="2027-01-15T08:01:00Z")
    await bench.deliver(FakeDelivery(body))
    bench.now += 600
    await bench.deliver(FakeDelivery(body))
    assert bench.observer.outcomes == [("retried", "timeout"), ("succeeded", "adopted")]


async def test_a_known_ending_goes_before_poison() -> None:
    """However often its channel was lost since, a request that succeeded is told so."""
    rules = RetryPolicy(delivery_limit=3)
    worn = state(interruptions=5) | {"x-delivery-count": 1}
    bench = Bench(rules)
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(headers=worn, redelivered=True))
    assert bench.observer.outcomes == [("succeeded", "created")] * 2
    claims = FakeClaims()
    await Bench(claims=claims).deliver(FakeDelivery())
    ending = claims.told[0][1]
    assert isinstance(ending, Completed)
    replica = Bench(rules, claims=FakeClaims(Concluded(ending)))
    await replica.deliver(FakeDelivery(headers=worn, redelivered=True))
    assert replica.observer.outcomes == [("succeeded", "created")]


async def test_a_conflicting_task_does_not_reject_the_true_request() -> None:
    """Which of two tasks of one id is the request is known only when the other has landed."""
    asked = asyncio.Event()

    class Slow(FakeClaims):
        async def take(self, migration: MigrationRequest, now: float, replays: int = 0) -> ClaimAnswer:
            await asked.wait()
            return Held(_fingerprint()) if migration.fingerprint != _fingerprint() else Granted(is_first=False)

    bench = Bench(claims=Slow())
    other = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    for delivery in (FakeDelivery(request(task=other)), FakeDelivery(headers=state())):
        bench.service.deliver(delivery)
    await asyncio.sleep(0.01)
    asked.set()
    await bench.idle()
    assert sorted(reason for _, reason in bench.observer.outcomes) == ["created", "invalid_request"]


async def test_found_by_a_repeat_is_adopted() -> None:
    """The look-up of a repeat that hits ends the request."""
    bench = Bench(find=[found()])
    await bench.deliver(FakeDelivery(redelivered=True))
    assert bench.observer.outcomes == [("succeeded", "adopted")]


def _fingerprint() -> str:
    return RequestParser(65536, ("cn-north-4",), "cn-north-4").read(request()).fingerprint
