"""Settling and draining: publish, confirm, acknowledge; orderly shutdown."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from schemas import names
from schemas.envelope import Envelope
from schemas.last_error import LastError
from schemas.timestamp import to_text
from tests.malformed_messages import HOSTILE
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import BUSY, FORBIDDEN, NOW, FakeConsumer, FakeDelivery, FakePublisher, copy_headers, request
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.delivery_context import DeliveryContext
from worker.pipeline.executor import Executor
from worker.policy.call_result import CallError, TaskCreated, TaskNotFound, UncopyableError
from worker.policy.outcome import Outcome
from worker.policy.retry_policy import RetryPolicy


async def test_unconfirmed_publish_is_retried_before_acknowledgement() -> None:
    """The delivery stays unacknowledged until the broker confirms, with growing pauses."""
    bench = Bench(refusals=3)
    delivery = FakeDelivery()
    await bench.deliver(delivery)
    assert bench.slept == [0.25, 0.5, 1.0]
    assert (len(bench.publisher.published), delivery.done) == (1, ["ack"])
    assert bench.dcs.calls == ["create"]


async def test_parked_copy_is_published_once_when_event_is_retried() -> None:
    """A confirmed publish is not repeated."""
    bench = Bench(create=[FORBIDDEN])
    publish = bench.publisher.event
    failures = iter([True, True, False])

    async def refuse(*arguments: Any, **named: Any) -> None:
        bench.publisher.refusals = int(next(failures))
        await publish(*arguments, **named)

    bench.publisher.event = refuse  # type: ignore[method-assign]
    await bench.deliver(FakeDelivery())
    assert [copy.what for copy in bench.publisher.published] == ["park", "event"]


@pytest.mark.parametrize(("refusals", "recorded"), [(1, 1), (99, 0)])
async def test_final_outcome_is_published_after_loss_of_channel(refusals: int, recorded: int) -> None:
    """Its message may be lost with the queue; it is tried some times, then left to a redelivery."""
    bench = Bench(refusals=refusals)
    delivery = FakeDelivery()
    answer = asyncio.Event()
    bench.dcs.creates.insert(0, answer)
    bench.dispatcher.deliver(delivery)
    await asyncio.sleep(0.01)
    delivery.lost = True
    answer.set()
    await bench.idle()
    assert (len(bench.publisher.events), delivery.done) == (recorded, [])
    assert bench.observer.outcomes == [("returned", "stale")]


@pytest.mark.parametrize("value", [b"\xff", 1e300, {"nested": 1}, "x" * 513])
async def test_malformed_trace_header_is_dropped(value: object) -> None:
    """Only a readable one of sensible length is passed on."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers={"traceparent": "00-a-b-01", "tracestate": value}))
    assert bench.publisher.published[0].headers == {"traceparent": "00-a-b-01"}


@pytest.mark.parametrize("moment", ["before", "between"])
async def test_lost_channel_stops_settling(moment: str) -> None:
    """The broker delivers again; nothing is acknowledged, and the delivery is reported as returned."""
    bench = Bench(create=[FORBIDDEN], refusals=1)
    delivery = FakeDelivery()
    original = bench.publisher.park

    async def lose(*arguments: Any, **named: Any) -> None:
        delivery.lost = True
        if moment == "between":
            bench.publisher.refusals = 0
        await original(*arguments, **named)

    bench.publisher.park = lose  # type: ignore[method-assign]
    await bench.deliver(delivery)
    assert delivery.done == []
    assert bench.publisher.events == []
    assert bench.observer.outcomes == [("returned", "stale")]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
async def test_malformed_message_gets_event_and_no_call(hostile: Any) -> None:
    """One invalid_request event; parked only when nothing can be addressed to its sender."""
    bench = Bench()
    delivery = FakeDelivery(hostile.body, headers=hostile.headers)
    await bench.deliver(delivery)
    (event,) = bench.publisher.events
    assert (event["reason"], event["parked"]) == ("invalid_request", hostile.expect_parked)
    assert event["violations"]
    assert (bench.dcs.calls, delivery.done) == ([], ["release_body", "ack"])


async def test_two_broken_bodies_have_two_event_ids() -> None:
    """Without a request id the body stands for it: one failure must not hide another."""
    bench = Bench()
    await bench.deliver(FakeDelivery(b"{"), FakeDelivery(b"["), FakeDelivery(b"{"))
    ids = [event.event_id for event in bench.publisher.published if event.what == "event"]
    assert len(set(ids)) == 2


class ExecutorWithDefect(Executor):
    """Executor with a temporary defect."""

    defects = 1

    async def execute(self, context: DeliveryContext) -> Outcome:
        """Fail once."""
        if ExecutorWithDefect.defects:
            ExecutorWithDefect.defects -= 1
            raise RuntimeError("defect")
        return await super().execute(context)


async def test_defect_rejects_one_delivery_and_copy_is_looked_up() -> None:
    """It is returned as a failed delivery after a pause; a copy that waited for it is looked up first."""
    ExecutorWithDefect.defects = 1
    bench = Bench()
    bench.dispatcher._pipeline._executor.__class__ = ExecutorWithDefect
    first, copy = FakeDelivery(), FakeDelivery()
    await bench.deliver(first, copy)
    assert (first.done, copy.done) == (["reject"], ["ack"])
    assert [str(defect) for defect in bench.observer.defects] == ["defect"]
    assert (bench.dcs.calls, bench.observer.outcomes) == (["find"], [("retried", "settle")])


async def test_defect_on_lost_channel_settles_nothing() -> None:
    """There is nothing to return."""
    ExecutorWithDefect.defects = 1
    bench = Bench()
    bench.dispatcher._pipeline._executor.__class__ = ExecutorWithDefect
    delivery = FakeDelivery(lost=True)
    await bench.deliver(delivery)
    assert delivery.done == []


async def test_drain_finishes_calls_and_requeues_new_deliveries() -> None:
    """A call in flight is settled; a later delivery is requeued as a copy with its envelope."""
    answer = asyncio.Event()
    bench = Bench(create=[answer, TaskCreated("i-1")])
    first, late = FakeDelivery(), FakeDelivery(request(request_id="r-2"))
    bench.dispatcher.deliver(first)
    await asyncio.sleep(0.01)
    draining = asyncio.create_task(bench.dispatcher.drain(5.0))
    await asyncio.sleep(0.01)
    bench.dispatcher.deliver(late)
    answer.set()
    assert await draining == 0
    assert bench.consumer.recorded == ["stop"]
    assert (first.done, late.done) == (["ack"], ["ack"])
    copy = next(copy for copy in bench.publisher.published if copy.what == "hand_back")
    assert copy.headers["x-deliveries"] == 1
    assert "x-last-sent-at" not in copy.headers
    assert sorted(bench.observer.outcomes) == [("returned", "drain"), ("succeeded", "created")]


async def test_handed_back_copy_counts_its_deliveries_and_is_unchanged_else() -> None:
    """What the broker counts are interruptions; after one, a create may have been sent."""
    bench = Bench()
    bench.throttle.close()
    kept = copy_headers(3, last_sent_at=NOW - 100, interruptions=1) | {
        names.REPLAYS: 2,
        names.EXPIRATION: "9",
        names.USER_ID: "sender",
        "mine": [1],
        names.LAST_ERROR: LastError("refused", 503).text(),
    }
    broken = {names.DELIVERY_COUNT: 3, "x-acquired-count": 3}
    await bench.deliver(FakeDelivery(headers=kept), FakeDelivery(request(request_id="r-2"), kept | broken, True))
    whole, redelivered = (dict(copy.headers) for copy in bench.publisher.published)
    for headers in (whole, redelivered):
        headers.pop(names.JOURNAL)
    deliveries = kept[names.DELIVERIES]
    assert isinstance(deliveries, int)
    assert whole == kept | {names.DELIVERIES: deliveries + 1}
    counted = {names.DELIVERIES: deliveries + 4, names.INTERRUPTIONS: 4, names.LAST_SENT_AT: to_text(NOW)}
    assert redelivered == kept | counted


async def test_waiting_copy_of_requeued_request_is_requeued() -> None:
    """Both go to the next replica, both marked as repeats."""
    looked = asyncio.Event()
    bench = Bench(find=[looked, TaskNotFound()])
    repeat = Envelope(1, 1, 2, 0, 0, NOW, None, True, False).write({})
    for _ in range(2):
        bench.dispatcher.deliver(FakeDelivery(headers=repeat))
    await asyncio.sleep(0.01)
    draining = asyncio.create_task(bench.dispatcher.drain(5.0))
    await asyncio.sleep(0.01)
    looked.set()
    assert await draining == 0
    assert bench.dcs.calls == ["find"]
    assert [copy.what for copy in bench.publisher.published] == ["hand_back", "hand_back"]


async def test_drain_ends_backoff() -> None:
    """The wait ends, and its request is postponed."""
    bench = Bench(create=[BUSY])
    bench.dispatcher._pipeline._executor._random_unit = lambda: 0.99
    delivery = FakeDelivery()
    bench.dispatcher.deliver(delivery)
    await asyncio.sleep(0.02)
    async with asyncio.timeout(0.15):
        assert await bench.dispatcher.drain(5.0) == 0
    assert bench.observer.outcomes == [("retried", "400")]


async def test_drain_deadline_leaves_deliveries_unsettled() -> None:
    """Law `look-before-create` makes that safe: the next worker looks up first."""
    bench = Bench(create=[asyncio.Event()], consumer=FakeConsumer(ConnectionError("away")))
    delivery = FakeDelivery()
    bench.dispatcher.deliver(delivery)
    await asyncio.sleep(0.01)
    assert await bench.dispatcher.drain(0.05) == 1
    assert delivery.done == []
    assert bench.dispatcher.in_flight == 0
    assert bench.observer.refusals == ["the consumer could not be cancelled: away"]


async def test_closed_throttle_ends_waits_between_tries() -> None:
    """A wait between two tries ends at once, and closing again changes nothing."""
    throttle = Bench().throttle
    sleeper = asyncio.create_task(throttle.wait_unless_closed(30.0))
    await asyncio.sleep(0)
    throttle.close()
    throttle.close()
    assert not await sleeper
    assert not await throttle.wait_unless_closed(30.0)
    assert await Bench().throttle.wait_unless_closed(0.0)
    assert repr(throttle) == "<Throttle: closed, 0 in use>"


async def test_memory_of_outcomes_is_bounded() -> None:
    """The oldest outcome is forgotten; the others are still known, as `repr` shows."""
    bench = Bench()
    await bench.deliver(FakeDelivery())
    deduplicator = Deduplicator(capacity=1)
    bench.dispatcher._pipeline._deduplicator = deduplicator
    for name in ("a", "b", "b", "a"):
        await bench.deliver(FakeDelivery(request(request_id=name)))
    assert bench.dcs.calls == ["create"] * 4
    assert repr(deduplicator) == "<Deduplicator: 0 in progress, 1 completed, 0 unfinished>"
    assert repr(bench.dispatcher) == "<Dispatcher: 0 in flight, <Throttle: open, 0 in use>>"


async def test_copies_keep_later_last_sent_at() -> None:
    """Of two moments at which a create may have been in flight the later one counts."""
    bench = Bench(create=[BUSY])
    sent = Envelope(1, 1, 2, 0, 0, NOW, NOW - 10, True, False).write({})
    await bench.deliver(FakeDelivery(headers=sent), FakeDelivery(headers=sent))
    assert {copy.headers["x-last-sent-at"] for copy in bench.publisher.published} == {"2027-01-15T07:59:50.000Z"}


async def test_suspected_poison_is_processed_alone() -> None:
    """It waits for deliveries in flight and pauses consumption; a second suspect is postponed meanwhile."""
    answer = asyncio.Event()
    bench = Bench(create=[answer, TaskCreated("i-1")], find=[TaskNotFound()])
    suspected = Envelope(1, 0, 9, 5, 0, NOW - 900, NOW - 900, True, False).write({})
    innocent, suspect, second = (
        FakeDelivery(),
        FakeDelivery(request(request_id="r-2"), headers=suspected),
        FakeDelivery(request(request_id="r-3"), headers=suspected),
    )
    for delivery in (innocent, suspect, second):
        bench.dispatcher.deliver(delivery)
    while not second.done:
        await asyncio.sleep(0)
    assert bench.dcs.calls == ["create"]
    answer.set()
    await bench.idle()
    assert bench.dcs.calls == ["create", "find", "create"]
    assert sorted(bench.observer.outcomes) == [
        ("retried", "quarantine"),
        ("succeeded", "created"),
        ("succeeded", "created"),
    ]
    assert bench.consumer.recorded == ["pause quarantine", "resume quarantine"]


async def test_only_suspected_poison_starts_at_once() -> None:
    """No other delivery is in flight; a suspect that cannot be postponed is left to the broker."""
    bench = Bench(find=[TaskNotFound()])
    suspected = Envelope(1, 0, 9, 5, 0, NOW - 900, NOW - 900, True, False).write({})
    await bench.deliver(
        FakeDelivery(headers=suspected), FakeDelivery(request(request_id="r-3"), headers=suspected, lost=True)
    )
    assert sorted(bench.observer.outcomes) == [("returned", "stale"), ("succeeded", "created")]


class UncopyablePublisher(FakePublisher):
    """Publisher over a broker that closes the connection for every copy."""

    async def publish_to_retry_queue(self, delivery: Any, retry_level: int, headers: Mapping[str, object]) -> None:
        """Refuse it."""
        raise UncopyableError("501")

    async def park(self, delivery: Any, headers: Mapping[str, object]) -> None:
        """Refuse it."""
        raise UncopyableError("501")


@pytest.mark.parametrize(("error", "reason"), [(BUSY, "poison"), (FORBIDDEN, "forbidden")])
async def test_message_that_cannot_be_copied_is_dead_lettered_after_one_event(error: CallError, reason: str) -> None:
    """One that should wait ends as poison; one that should be parked keeps its reason."""
    bench = Bench(RetryPolicy(tries=1), create=[error], publisher=UncopyablePublisher())
    delivery = FakeDelivery()
    await bench.deliver(delivery)
    assert [(event["reason"], event["parked"]) for event in bench.publisher.events] == [(reason, True)]
    assert delivery.done == ["dead_letter"]
