"""Stale knowledge: slow look-ups, lost deliveries and lost claims."""

import asyncio
from collections.abc import Callable

import pytest

from tests.pipeline.bench import Bench
from tests.pipeline.fakes import BUSY, FORBIDDEN, NOW, FakeClaims, FakeDcs, FakeDelivery, copy_headers
from worker.policy.call_result import CallError, LookupResult, TaskCreated
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed, Granted
from worker.policy.retry_policy import RetryPolicy


class SlowLookups(FakeDcs):
    """DCS whose look-ups take `seconds` of the bench's clock."""

    bench: Bench
    seconds = 0.0

    async def find(
        self,
        migration: MigrationRequest,
        since: float,
        on_call: Callable[[], None],
        *,
        may_exist: bool,
        was_sent: bool,
    ) -> LookupResult | CallError:
        """Look up slowly."""
        result = await super().find(migration, since, on_call, may_exist=may_exist, was_sent=was_sent)
        self.bench.now += self.seconds
        return result


async def test_lookup_started_before_end_of_listing_delay_proves_nothing() -> None:
    """Its answer arrives long after the listing delay, but is as old as its question."""
    bench = Bench()
    slow = SlowLookups()
    slow.bench, slow.seconds = bench, 29.0
    bench.dcs.find = slow.find  # type: ignore[method-assign]  # the one call that takes long
    await bench.deliver(FakeDelivery(headers=copy_headers(last_sent_at=NOW - 40.0)))
    assert bench.dcs.created == []
    assert bench.observer.outcomes == [("retried", "settle")]


async def _ended(*, create: CallError, round_: int, is_ours: bool = True, claimed: bool = True) -> Bench:
    """A request at its last retry level, whose replica loses the delivery or the claim during the call."""
    claims = FakeClaims(Granted(is_first=False))
    bench = Bench(RetryPolicy(reconcile="ambiguous", tries=1), create=[asyncio.Event(), create], claims=claims)
    delivery = FakeDelivery(headers=copy_headers(round_))
    bench.dispatcher.deliver(delivery)
    answer = bench.dcs.creates[0]
    while "create" not in bench.dcs.calls:
        await asyncio.sleep(0)
    delivery.is_ours, claims.claimed = is_ours, claimed
    answer.set()
    await bench.idle()
    return bench


async def test_stale_delivery_does_not_fail_request() -> None:
    """Its new owner completes it: no event, no parked copy, and the claim is released."""
    bench = await _ended(create=BUSY, round_=4, is_ours=False)
    assert bench.publisher.published == []
    assert bench.observer.outcomes == [("returned", "stale")]


async def test_lost_claim_postpones_request_instead_of_failing_it() -> None:
    """Another replica may have created meanwhile: it waits for the listing delay, and is looked up again."""
    bench = await _ended(create=BUSY, round_=4, claimed=False)
    (copy,) = bench.publisher.published
    assert (copy.what, copy.headers["x-round"]) == ("retry", 4)
    assert copy.headers["x-last-sent-at"] == "2027-01-15T08:00:00.000Z"
    assert bench.observer.outcomes == [("retried", "claimed")]


@pytest.mark.parametrize("create", [BUSY, FORBIDDEN])
async def test_owned_delivery_fails_request(create: CallError) -> None:
    """With delivery and claim the last failure is final; a refusal is final also without the claim."""
    assert (await _ended(create=create, round_=4)).observer.outcomes[0][0] == "failed"
    assert (await _ended(create=FORBIDDEN, round_=4, claimed=False)).observer.outcomes[0][0] == "failed"


async def test_all_replicas_publish_the_stored_outcome() -> None:
    """A replica that is second publishes the first outcome, and answers copies with it."""
    first = FakeClaims()
    await Bench(create=[TaskCreated("i-1")], claims=first).deliver(FakeDelivery())
    stored = first.recorded[0][1]
    assert isinstance(stored, Completed)
    claims = FakeClaims()
    claims.stored = stored
    bench = Bench(create=[FORBIDDEN], claims=claims)
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery())
    assert bench.observer.outcomes == [("succeeded", "created")] * 2
    assert bench.dcs.calls == ["create"]
