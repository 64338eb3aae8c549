"""Permits of the throttle: tokens, waits, and closing."""

import asyncio

import pytest

from tests.pipeline.virtual_time.fakes import FULL, UNREACHABLE
from tests.pipeline.virtual_time.throttle_bench import REGION, ThrottleBench, simple_migration, throttled
from tests.pipeline.virtual_time.world import World
from worker.policy.call_result import (
    Condition,
    PostponedError,
    TaskCreated,
    TaskNotFound,
    ThrottleClosedError,
)

DONE = TaskCreated("i")


def test_permit_takes_tokens_of_lookup_and_create_and_further_calls_follow() -> None:
    """Ten calls a second: two at once, three more pages, and the next two calls are due half a second later."""
    world = World(1, rate=10.0)

    async def scenario() -> None:
        throttle, started_at = world.replicas[0].throttle, world.loop.now
        async with throttle.permit(simple_migration(), 2) as permit:
            for _ in range(5):
                permit.begin_call()
            permit.ended(DONE)
        async with throttle.permit(simple_migration("next"), 2):
            assert world.loop.now - started_at == pytest.approx(0.5, abs=0.01)

    world.loop.run_until_complete(scenario())
    world.close()


def test_token_of_unmade_create_is_returned() -> None:
    """The look found the task: its permit's second call is given back."""
    world = World(1, rate=10.0)

    async def scenario() -> None:
        throttle, started_at = world.replicas[0].throttle, world.loop.now
        for number in range(11):
            async with throttle.permit(simple_migration(f"r{number}"), 2) as permit:
                permit.begin_call()
                permit.ended(TaskNotFound())
        assert world.loop.now - started_at == pytest.approx(1.0, abs=0.02)

    world.loop.run_until_complete(scenario())
    world.close()


def test_request_waits_at_most_one_minute(bench: ThrottleBench) -> None:
    """Hanging calls keep no request for longer."""

    async def scenario() -> None:
        started_at = bench.world.loop.now
        hanging = [asyncio.ensure_future(bench.call(DONE, f"h{number}", seconds=100)) for number in range(8)]
        await asyncio.sleep(1)
        with pytest.raises(PostponedError, match="turn: 0 s"):
            await bench.call(DONE)
        assert bench.world.loop.now - started_at == pytest.approx(61, abs=0.1)
        await asyncio.gather(*hanging)

    bench.run(scenario())
    assert (bench.region.in_use, len(bench.region.queue.items)) == (0, 0)


def test_long_throttle_wait_postpones_request(bench: ThrottleBench) -> None:
    """One call per five minutes: it waits in the broker."""
    bench.calls(throttled(Condition.PROJECT_THROTTLED, 1, 300.0))
    with pytest.raises(PostponedError, match="throttled: 10 s"):
        bench.calls(DONE)
    assert bench.region.in_use == 0


def test_full_project_postpones_waiting_requests(bench: ThrottleBench) -> None:
    """Those who wait when their project turns out to be full are postponed at once."""

    async def scenario() -> None:
        waiting = [asyncio.ensure_future(bench.call(FULL, f"r{number}")) for number in range(100)]
        endings = await asyncio.gather(*waiting, return_exceptions=True)
        postponed = [completed for completed in endings if isinstance(completed, PostponedError)]
        assert len(postponed) == 92
        assert {completed.why for completed in postponed} == {"quota"}

    bench.run(scenario())
    assert (bench.region.in_use, len(bench.region.queue.items)) == (0, 0)


def test_throttled_project_does_not_delay_others_in_queue(bench: ThrottleBench) -> None:
    """They go while it waits for its turn."""
    bench.calls(throttled(Condition.PROJECT_THROTTLED, 2))

    async def scenario() -> None:
        slowed = [asyncio.ensure_future(bench.call(DONE, f"s{number}")) for number in range(4)]
        await asyncio.sleep(0)
        started_at = bench.world.loop.now
        await asyncio.gather(*(bench.call(DONE, f"o{number}", "other") for number in range(20)))
        assert bench.world.loop.now - started_at < 0.1
        await asyncio.gather(*slowed)
        assert bench.world.loop.now - started_at > 1.0

    bench.run(scenario())


def test_one_call_at_a_time_until_credentials_are_accepted() -> None:
    """In all regions together; then all go."""
    bench = ThrottleBench(regions=(REGION, "other"))

    async def call(number: int, seconds: float) -> None:
        migration = simple_migration(f"r{number}")
        async with bench.throttle.permit(migration, 1) as permit:
            permit.begin_call()
            most.append(bench.throttle.in_use)
            await asyncio.sleep(seconds)
            permit.ended(UNREACHABLE if number < 2 else DONE)

    most: list[int] = []
    bench.run(_together(*(call(number, 1.0) for number in range(8))))
    assert most[:3] == [1, 1, 1]
    assert max(most) == 5
    bench.world.close()


async def _together(*calls: "asyncio._CoroutineLike[None]") -> None:
    await asyncio.gather(*calls)


def test_close_at_turn_of_waiter_stops_it(bench: ThrottleBench) -> None:
    """Who was told to go, but has not gone yet, does not go."""

    async def scenario() -> None:
        hanging = [asyncio.ensure_future(bench.call(DONE, f"r{number}", seconds=5)) for number in range(8)]
        await asyncio.sleep(1)
        next_one = asyncio.ensure_future(bench.call(DONE, "next"))
        await asyncio.sleep(0)
        assert len(bench.region.queue.items) == 1
        hanging[0].cancel()
        while len(bench.region.queue.items):
            await asyncio.sleep(0)
        bench.throttle.close()
        with pytest.raises(ThrottleClosedError):
            await next_one
        await asyncio.gather(*hanging, return_exceptions=True)

    bench.run(scenario())
    assert (bench.region.in_use, bench.throttle.in_use) == (0, 0)
    with pytest.raises(ThrottleClosedError):
        bench.calls(DONE)


def test_close_with_cancelled_waiter_stops_others(bench: ThrottleBench) -> None:
    """Every other one is sent away."""

    async def scenario() -> None:
        calls = [asyncio.ensure_future(bench.call(DONE, f"r{number}")) for number in range(11)]
        await asyncio.sleep(0)
        calls[9].cancel()
        await asyncio.sleep(0)
        bench.throttle.close()
        endings = await asyncio.gather(*calls, return_exceptions=True)
        closed, cancelled = ThrottleClosedError, asyncio.CancelledError
        assert [type(completed) for completed in endings[8:]] == [closed, cancelled, closed]

    bench.run(scenario())
    assert bench.region.in_use == 0


def test_closed_throttle_sends_no_probe(bench: ThrottleBench) -> None:
    """And leaves no timer and no task behind."""
    bench.world.dcs.faults[REGION] = UNREACHABLE
    bench.calls(*[UNREACHABLE] * 5)
    bench.run(asyncio.sleep(20))
    probes = len(bench.probes)
    assert probes >= 3
    bench.throttle.close()
    bench.run(asyncio.sleep(60))
    assert len(bench.probes) == probes
