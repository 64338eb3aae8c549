"""Start of a watch: after the success event and before the acknowledgement, once for each created task."""

import asyncio

import pytest

from tests.pipeline.bench import Bench
from tests.pipeline.fakes import REJECTED, FakeClaims, FakeDelivery, request, task_found
from worker.policy.outcome import Concluded
from worker.policy.retry_policy import RetryPolicy


async def test_watch_follows_the_success_event_and_precedes_the_acknowledgement() -> None:
    """Its body is that of the event; job, task and correlation travel with it."""
    bench = Bench(with_follow_up=True)
    delivery = FakeDelivery(
        correlation_id="c-1", reply_to="answers", headers={"x-secret": "s"}, exchange="dcs.migration"
    )
    await bench.deliver(delivery)
    event, watch = bench.publisher.published
    assert [event.what, watch.what, *delivery.done] == ["event", "watch", "ack"]
    assert watch.body == event.body
    assert (watch.correlation_id, watch.retry_level) == ("c-1", 0)
    assert watch.headers == {"x-stage": "follow-up", "x-task-id": "i-1", "x-job-id": "j-1", "x-round": 0}


async def test_request_is_not_acknowledged_before_its_watch_is_confirmed() -> None:
    """The event and the watch are published again until the broker confirms them."""
    bench = Bench(with_follow_up=True)
    confirm = bench.publisher.watch
    tries: list[int] = []

    async def refuse_once(*arguments: object, **named: object) -> None:
        tries.append(len(delivery.done))
        bench.publisher.refusals = 1 if len(tries) == 1 else 0
        await confirm(*arguments, **named)  # type: ignore[arg-type]

    bench.publisher.watch = refuse_once  # type: ignore[method-assign]
    delivery = FakeDelivery()
    await bench.deliver(delivery)
    assert (tries, delivery.done) == ([0, 0], ["ack"])


async def test_adopted_task_is_followed_up_without_job() -> None:
    """A task found instead of created has no job that is known."""
    bench = Bench(RetryPolicy(), find=[task_found("i-9")], with_follow_up=True)
    await bench.deliver(FakeDelivery())
    assert bench.publisher.published[-1].headers == {"x-stage": "follow-up", "x-task-id": "i-9", "x-round": 0}


@pytest.mark.parametrize("with_follow_up", [True, False])
async def test_failures_and_worker_without_follow_up_start_no_watch(*, with_follow_up: bool) -> None:
    """Only a success has a task."""
    bench = Bench(create=[REJECTED] if with_follow_up else (), with_follow_up=with_follow_up)
    await bench.deliver(FakeDelivery())
    assert [published.what for published in bench.publisher.published] == ["event"]


async def test_answer_from_memory_starts_no_watch() -> None:
    """Copies of a request: at the same time, later, and after another replica."""
    bench = Bench(with_follow_up=True)
    await bench.deliver(FakeDelivery(), FakeDelivery())
    await bench.deliver(FakeDelivery())
    assert [published.what for published in bench.publisher.published].count("watch") == 1

    claims = FakeClaims()
    first = Bench(claims=claims)
    await first.deliver(FakeDelivery())
    (_, completed), *_ = claims.recorded
    answered = Bench(claims=FakeClaims(Concluded(completed)), with_follow_up=True)  # type: ignore[arg-type]
    await answered.deliver(FakeDelivery())
    assert [published.what for published in answered.publisher.published] == ["event"]


async def test_redelivered_request_that_is_answered_from_memory_starts_a_watch() -> None:
    """Its delivery may have been lost between the outcome and the watch: no task must be left unwatched."""
    bench = Bench(with_follow_up=True)
    waiting = asyncio.Event()
    confirm = bench.publisher.watch

    async def wait(*arguments: object, **named: object) -> None:
        await waiting.wait()
        await confirm(*arguments, **named)  # type: ignore[arg-type]

    bench.publisher.watch = wait  # type: ignore[method-assign]
    lost = FakeDelivery(request())
    bench.dispatcher.deliver(lost)
    while not bench.publisher.events:
        await asyncio.sleep(0)
    await bench.dispatcher.drain(0.0)  # as a crash: nothing is acknowledged
    assert lost.done == []
    bench.publisher.watch = confirm  # type: ignore[method-assign]
    bench.publisher.published.clear()
    await bench.deliver(FakeDelivery(request(), redelivered=True))
    assert [published.what for published in bench.publisher.published] == ["event", "watch"]
