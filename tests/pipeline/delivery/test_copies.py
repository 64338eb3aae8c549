"""Copies of a request: single flight, remembered outcomes, redeliveries during a call."""

import asyncio

import pytest

from tests.pipeline.bench import Bench
from tests.pipeline.fakes import BUSY, REJECTED, TIMEOUT, FakeDelivery, request
from worker.pipeline.deduplicator import Deduplicator
from worker.policy.call_result import TaskCreated, TaskNotFound


async def test_later_copy_gets_same_event() -> None:
    """The outcome is remembered: same id, same body, no call."""
    bench = Bench()
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(correlation_id="other"))
    first, second = bench.publisher.published
    assert (first.event_id, first.body) == (second.event_id, second.body)
    assert second.correlation_id == "other"
    assert bench.dcs.calls == ["create"]


async def test_requests_in_progress_are_listed() -> None:
    """They are listed by project and request id while they are in progress."""
    deduplicator, answered = Deduplicator(), asyncio.Event()
    bench = Bench(create=[answered, TaskCreated("i-1")], deduplicator=deduplicator)
    bench.dispatcher.deliver(FakeDelivery())
    while not bench.dcs.created:
        await asyncio.sleep(0)
    assert list(deduplicator.all_in_progress) == [("p1", "r-1")]
    answered.set()
    await bench.idle()
    assert not deduplicator.all_in_progress


async def test_concurrent_copies_make_one_call() -> None:
    """Single flight: four copies, one create, four events of one id."""
    bench = Bench()
    deliveries = [FakeDelivery() for _ in range(4)]
    await bench.deliver(*deliveries)
    assert bench.dcs.calls == ["create"]
    assert len({event.event_id for event in bench.publisher.published}) == 1
    assert all(copy.done == ["ack"] for copy in deliveries)


@pytest.mark.parametrize("at_once", [True, False])
async def test_same_id_for_another_task_is_conflict(at_once: bool) -> None:
    """The first request is in progress or completed."""
    bench = Bench()
    task = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    first, second = FakeDelivery(), FakeDelivery(request(task=task))
    if at_once:
        await bench.deliver(first, second)
    else:
        await bench.deliver(first)
        await bench.deliver(second)
    assert sorted(reason for _, reason in bench.observer.outcomes) == ["conflict", "created"]
    failed = next(event for event in bench.publisher.events if "reason" in event)
    assert (failed["name"], failed["violations"], failed["parked"]) == ("u", [], False)


async def test_copy_of_postponed_request_is_postponed() -> None:
    """A create of the first may be in flight for the copy as well."""
    bench = Bench(create=[TIMEOUT])
    await bench.deliver(FakeDelivery(), FakeDelivery())
    first, second = bench.publisher.published
    assert first.retry_level == second.retry_level
    assert second.headers["x-last-sent-at"] == first.headers["x-last-sent-at"]
    assert (first.headers["x-round"], second.headers["x-round"]) == (1, 0)


async def test_copy_during_retry_wait_is_looked_up_and_waits() -> None:
    """A copy by the sender is no first delivery here: a create may have been sent for the first."""
    bench = Bench(create=[TIMEOUT, TaskCreated("i-1")])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create", "find", "find"]
    assert bench.observer.outcomes == [("retried", "timeout"), ("retried", "settle")]
    other = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    await bench.deliver(FakeDelivery(request(task=other)))
    assert bench.publisher.events[0]["reason"] == "conflict"
    bench.now += 60
    await bench.deliver(FakeDelivery(headers=bench.publisher.published[0].headers))
    assert bench.dcs.calls[-2:] == ["find", "create"]


async def test_replayed_request_ignores_remembered_failure() -> None:
    """x-replays distinguishes a replay by the operator from a late copy, and changes the event id."""
    bench = Bench(create=[REJECTED, TaskCreated("i-1")])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(headers={"x-replays": 1}))
    assert bench.observer.outcomes == [("failed", "rejected"), ("succeeded", "created")]
    await bench.deliver(FakeDelivery(headers={"x-replays": 2}))
    assert bench.dcs.calls == ["create", "find", "create"]


async def test_call_in_flight_outlives_channel_and_answers_redelivery() -> None:
    """The result is kept: the redelivery is completed with it, without a call."""
    answer = asyncio.Event()
    bench = Bench(create=[answer, TaskCreated("i-1")])
    first = FakeDelivery()
    bench.dispatcher.deliver(first)
    await asyncio.sleep(0.01)
    first.lost = True
    again = FakeDelivery(redelivered=True)
    bench.dispatcher.deliver(again)
    answer.set()
    await bench.idle()
    assert bench.dcs.calls == ["create"]
    assert (first.done, again.done) == ([], ["ack"])
    assert bench.publisher.events[0]["resolution"] == "created"


async def test_redelivery_takes_over_from_abandoned_delivery() -> None:
    """The listing delay runs from the end of the abandoned delivery, not from its arrival."""
    gone = asyncio.Event()
    bench = Bench(create=[gone, BUSY, BUSY, TaskCreated("i-1")], find=[TaskNotFound()])
    first = FakeDelivery()
    bench.dispatcher.deliver(first)
    await asyncio.sleep(0.01)
    first.lost = True
    again = FakeDelivery(redelivered=True)
    bench.dispatcher.deliver(again)
    await asyncio.sleep(0.01)
    bench.now += 7
    gone.set()
    await bench.idle()
    assert bench.dcs.calls == ["create", "find"]
    assert bench.publisher.published[0].headers["x-last-sent-at"] == "2027-01-15T08:00:07.000Z"
