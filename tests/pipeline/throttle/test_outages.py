"""Outages of a region, circuit breaker, and closing."""

import asyncio
from collections.abc import Callable

import pytest

from tests.pipeline.virtual_time.fakes import UNREACHABLE
from tests.pipeline.virtual_time.world import World
from worker.policy.call_result import CallError, CallStatus, Condition, ErrorKind, Evidence

REGION = "cn-north-4"
FOREIGN = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, "blocked", http_status=403)
Build = Callable[..., World]


@pytest.mark.parametrize("seed", range(3))
def test_short_outage_costs_no_retry_level(build: Build, seed: int) -> None:
    """3,000 waiting, two replicas: a call per second at most, nothing spent or parked, a success within 10 s."""
    world = build(2, seed=seed)
    world.publish(3000)
    world.run(1.0)
    world.dcs.faults[REGION] = UNREACHABLE
    started_at = world.loop.now
    world.run(started_at + 1)
    assert all(replica.paused_by for replica in world.replicas)
    done, waiting = len(world.ended), len(world.queue)
    world.run(started_at + 30)
    assert len(world.queue) == waiting > 500
    assert world.dcs.calls_between(started_at + 1, started_at + 30) <= 29
    del world.dcs.faults[REGION]
    first = world.run(lambda: len(world.ended) > done, at_most=10) - started_at - 30
    assert first <= 10
    world.run(lambda: len(world.ended) == 3000, at_most=60)
    assert set(world.dcs.created.values()) == {1}
    assert (world.parked, world.postponed, world.highest_round) == ([], 0, 0)


def test_proxy_that_answers_itself_is_called_for_three_requests(build: Build) -> None:
    """A 4xx without a code of DCS or its gateway: the third request holds the region, and all flow after its end."""
    world = build(1)
    world.dcs.faults[REGION] = FOREIGN
    world.publish(300)
    world.run(20.0)
    requests = [at for at, operation, *_ in world.dcs.calls if operation == "find"]
    probes = [at for at, operation, *_ in world.dcs.calls if operation == "probe"]
    assert len(requests) == 3
    assert 2 <= len(probes) <= 10
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 300, at_most=60)
    assert world.parked == []
    assert set(world.dcs.created.values()) == {1}


def test_long_outage_postpones_requests(build: Build) -> None:
    """After a minute requests are postponed at no cost, and single ones are consumed as probes."""
    world = build(1)
    world.publish(500)
    world.run(0.5)
    world.dcs.faults[REGION] = UNREACHABLE
    world.run(130.0)
    (replica,) = world.replicas
    assert world.postponed > 0
    assert len(replica.unacked) <= 2
    world.run(1200.0)
    probes = [at for at, *_ in world.dcs.calls if at > 130]
    assert 1070 / 8.1 <= len(probes) <= 1070 / 6
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 500, at_most=2400)
    assert world.parked == []
    assert set(world.dcs.created.values()) == {1}


def test_calls_ramp_up_after_outage(build: Build) -> None:
    """The first calls after the return come one by one, then more and more of them."""
    world = build(1)
    world.publish(20000)
    world.run(3.0)
    world.dcs.faults[REGION] = UNREACHABLE
    world.run(10.0)
    del world.dcs.faults[REGION]
    done = len(world.ended)
    world.run(lambda: len(world.ended) > done)
    most = []
    for _ in range(4):
        most.append(world.dcs.under_way)
        world.run(world.loop.now + 0.1)
    assert most[0] <= 3
    assert most == sorted(most)
    world.run(world.loop.now + 5)
    assert world.dcs.under_way > 50


def test_single_failing_request_does_not_open_breaker(build: Build) -> None:
    """A request whose calls all fail uses up its own schedule, and no other one waits for that."""
    world = build(1)
    fault = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.RESET)
    world.dcs.faults["bad"] = fault
    world.publish(1, "bad", project_id="bad")
    world.run(lambda: "bad-0" in world.ended)
    assert world.ended["bad-0"][1] == "exhausted"
    assert world.replicas[0].breaker_states == []


def test_breaker_state_is_logged_and_counted(build: Build) -> None:
    """Opened, probed and closed: in the log with the next probe, in the metric as 2, 1, 2, ..., 1, 0."""
    world = build(1)
    world.publish(300)
    world.run(0.2)
    world.dcs.faults[REGION] = UNREACHABLE
    world.run(20.0)
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 300)
    (replica,) = world.replicas
    (opened,), (closed,) = replica.logged("breaker.opened"), replica.logged("breaker.closed")
    assert (opened["region"], opened["status"], opened["retry_in_seconds"]) == (
        REGION,
        "refused",
        pytest.approx(2.25, abs=0.25),
    )
    assert opened["message"] == (
        f"breaker of {REGION}: DCS fails, so no call is made (connection refused); the next probe is in 2 s"
    )
    assert closed["duration_seconds"] > 19
    assert len(replica.logged("breaker.probe_failed")) >= 4
    states = [
        state
        for state, before in zip(replica.breaker_states, [0, *replica.breaker_states], strict=False)
        if state != before
    ]
    assert states == [2, 1] * (len(states) // 2) + [0]


def test_outage_of_region_does_not_delay_other_region(build: Build) -> None:
    """They share the queue: requests of the failing region are postponed at no cost, the others go on at once."""
    world = build(1, regions=("a", "b"))
    world.dcs.faults["a"] = UNREACHABLE
    for number in range(300):
        world.publish(1, f"a{number}", region="a")
        world.publish(1, f"b{number}", region="b")
    world.run(lambda: sum(name.startswith("b") for name in world.ended) == 300, at_most=8)
    assert not world.replicas[0].paused_by
    world.run(60.0)
    assert not [name for name in world.ended if name.startswith("a")]
    del world.dcs.faults["a"]
    world.run(lambda: len(world.ended) == 600, at_most=4000)
    assert (world.parked, set(world.dcs.created.values())) == ([], {1})
    assert world.highest_round <= 1


@pytest.mark.parametrize("trouble", ["outage", "quota", "project"])
def test_waiting_requests_are_requeued_when_the_throttle_closes(build: Build, trouble: str) -> None:
    """A drain does not wait for a turn, wherever it is waited for."""
    world = build(1)
    if trouble == "outage":
        world.dcs.faults[REGION] = UNREACHABLE
    else:
        scope = Condition.REGION_THROTTLED if trouble == "quota" else Condition.PROJECT_THROTTLED
        world.dcs.quotas[REGION if trouble == "quota" else "p1"] = (2, scope)
    world.publish(200)
    world.run(2.0 if trouble == "project" else 6.0)
    (replica,) = world.replicas
    assert len(replica.unacked) >= 3

    started_at = world.loop.now
    assert world.loop.run_until_complete(replica.dispatcher.drain(25.0)) == 0
    assert world.loop.now - started_at < 1
    assert replica.unacked == set()
    assert repr(replica.throttle) == "<Throttle: closed, 0 in use>"


def test_cancelled_call_frees_its_permit(build: Build) -> None:
    """Whether it was waiting, or was told to go in that very moment."""
    world = build(1, prefetch=1)
    (replica,) = world.replicas
    region = replica.throttle.regions[REGION]
    migration = replica.dispatcher._pipeline._parser.read(world.message("r").body)

    async def call() -> None:
        async with replica.throttle.permit(migration, 1):
            await asyncio.sleep(5)

    async def scenario() -> None:
        calls = [asyncio.ensure_future(call()) for _ in range(4)]
        await asyncio.sleep(0.01)
        assert (region.in_use, len(region.queue.items)) == (1, 3)
        calls[1].cancel()
        await asyncio.sleep(0.1)
        assert (region.in_use, len(region.queue.items)) == (1, 2)
        calls[0].cancel()  # the third one is told to go
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (region.in_use, len(region.queue.items)) == (1, 1)
        calls[2].cancel()
        await asyncio.sleep(0.01)
        assert (region.in_use, len(region.queue.items)) == (1, 0)
        calls[3].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (region.in_use, replica.throttle.in_use) == (0, 0)

    world.loop.run_until_complete(scenario())
