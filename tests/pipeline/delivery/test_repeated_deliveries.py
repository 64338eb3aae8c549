"""Repeated deliveries: only a first delivery creates without a look-up."""

import pytest

from schemas.envelope import Envelope
from schemas.timestamp import to_text
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import (
    BUSY,
    NOW,
    THROTTLED,
    TIMEOUT,
    FakeClaims,
    FakeDelivery,
    copy_headers,
    request,
    task_found,
)
from worker.policy.call_result import TaskNotFound
from worker.policy.outcome import Granted
from worker.policy.retry_policy import RetryPolicy


async def test_copy_is_looked_up_first_despite_forged_headers() -> None:
    """Law `look-before-create`: even a copy that was never sent is looked up, then created without a listing delay."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers=copy_headers()))
    assert bench.dcs.calls == ["find", "create"]


async def test_redelivery_waits_full_listing_delay() -> None:
    """A create may be in flight elsewhere: it is looked up, then postponed without using a retry level."""
    bench = Bench()
    await bench.deliver(FakeDelivery(redelivered=True, headers={"x-delivery-count": 1}))
    assert bench.dcs.calls == ["find"]
    (copy,) = bench.publisher.published
    assert (copy.retry_level, copy.headers["x-round"], copy.headers["x-interruptions"]) == (2, 0, 1)
    assert copy.headers["x-last-sent-at"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize(("age", "calls"), [(49.0, ["find"]), (50.5, ["find", "create"])])
async def test_listing_delay_has_allowance_for_clocks(age: float, calls: list[str]) -> None:
    """45 s, and 5 s for clocks that differ; then it is looked up again before the create."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers=copy_headers(last_sent_at=NOW - age)))
    assert bench.dcs.calls == calls


async def test_unreadable_state_header_counts_as_sent_now() -> None:
    """A header that a sender wrote never misleads the worker."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers={"x-last-sent-at": b"\xff", "x-round": -3}))
    assert bench.dcs.calls == ["find"]
    assert bench.observer.outcomes == [("retried", "settle")]


async def test_refusal_at_last_retry_level_is_exhausted() -> None:
    """No task exists; the request is parked."""
    bench = Bench(create=[BUSY])
    await bench.deliver(FakeDelivery(headers=copy_headers(4)))
    (event,) = bench.publisher.events
    assert (event["reason"], event["parked"], event["error"]["error_code"]) == ("exhausted", True, "DCS.4026")


async def test_ambiguous_create_at_last_retry_level_waits_for_listing_delay() -> None:
    """It is looked up after the listing delay before it is exhausted."""
    bench = Bench(RetryPolicy(reconcile="ambiguous", tries=1), create=[TIMEOUT])
    await bench.deliver(FakeDelivery(headers=copy_headers(4)))
    (copy,) = bench.publisher.published
    assert (copy.retry_level, copy.headers["x-round"]) == (2, 5)
    bench.now += 60
    await bench.deliver(FakeDelivery(headers=copy.headers))
    assert bench.dcs.calls == ["find", "create", "find"]
    assert bench.publisher.events[0]["reason"] == "exhausted"


async def test_throttling_for_a_day_uses_retry_levels() -> None:
    """Throttling uses no retry level at first, but not for ever."""
    bench = Bench(create=[THROTTLED])
    headers = Envelope(1, 0, 2, 0, 0, NOW - 90_000, None, True, False).write({})
    await bench.deliver(FakeDelivery(headers=headers))
    assert bench.publisher.published[0].headers["x-round"] == 1


async def test_poison_is_parked_with_event_without_call() -> None:
    """Law `poison`: too many deliveries ended without a result."""
    bench = Bench(RetryPolicy(reconcile="ambiguous", delivery_limit=3))
    delivery = FakeDelivery(headers=copy_headers(interruptions=2) | {"x-delivery-count": 1}, redelivered=True)
    await bench.deliver(delivery)
    assert bench.dcs.calls == []
    assert bench.publisher.events[0]["reason"] == "poison"
    assert bench.publisher.published[0].headers["x-parked-reason"] == "poison"


async def test_stale_delivery_makes_no_call() -> None:
    """The delivery is left to the broker, which delivers it again."""
    bench = Bench()
    first, again = FakeDelivery(is_ours=False), FakeDelivery(headers=copy_headers(), is_ours=False)
    await bench.deliver(first, again)
    assert (bench.dcs.calls, first.done, again.done) == ([], [], [])
    assert bench.observer.outcomes == [("returned", "stale")] * 2


async def test_lookup_starts_at_first_known_time_of_request() -> None:
    """A redelivery without a date may be old: its task must not be taken for an older one."""
    dated, undated, copy, claimed = Bench(), Bench(), Bench(create=[TIMEOUT]), Bench(claims=FakeClaims(Granted(False)))
    await dated.deliver(FakeDelivery(headers=copy_headers()))
    await undated.deliver(FakeDelivery(redelivered=True))
    await copy.deliver(FakeDelivery())
    copy.now += 600
    await copy.deliver(FakeDelivery())
    await claimed.deliver(FakeDelivery())
    assert [bench.dcs.since[-1] for bench in (dated, undated, copy, claimed)] == [NOW - 1000, 0.0, NOW, 0.0]


async def test_copies_of_a_redelivery_without_a_date_have_none() -> None:
    """A copy of it says so: its task may be older than the delivery that wrote the copy; the replica knows it too."""
    bench, other = Bench(find=[BUSY]), Bench()
    await bench.deliver(FakeDelivery(redelivered=True))
    bench.now = other.now = NOW + 600
    headers = bench.publisher.published[0].headers
    assert headers["x-first-received-at"] == to_text(NOW)
    await other.deliver(FakeDelivery(headers=headers))
    await bench.deliver(FakeDelivery())
    assert (set(other.dcs.since), set(bench.dcs.since)) == ({0.0}, {0.0})


async def test_redelivery_is_older_than_a_copy_that_this_replica_knows() -> None:
    """The sender's copy came later; what was lost with the first delivery may have been sent before."""
    bench = Bench(create=[TIMEOUT])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(redelivered=True))
    assert bench.dcs.since == [NOW, 0.0]


async def test_expired_copy_of_ambiguous_request_is_looked_up() -> None:
    """A create of the first copy may have been sent, so that it is looked up before it expires."""
    bench = Bench(create=[TIMEOUT], find=[TaskNotFound(), task_found()])
    body = request(not_after="2027-01-15T08:01:00Z")
    await bench.deliver(FakeDelivery(body))
    bench.now += 600
    await bench.deliver(FakeDelivery(body))
    assert bench.observer.outcomes == [("retried", "timeout"), ("succeeded", "adopted")]


async def test_task_found_by_repeat_is_adopted() -> None:
    """A successful look-up completes the request."""
    bench = Bench(find=[task_found()])
    await bench.deliver(FakeDelivery(redelivered=True))
    assert bench.observer.outcomes == [("succeeded", "adopted")]
