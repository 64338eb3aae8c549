"""Several regions behind one throttle."""

from collections.abc import Callable, Iterator

import pytest

from tests.pipeline.virtual_time.fakes import UNREACHABLE
from tests.pipeline.virtual_time.world import World
from worker.policy.call_result import CallError, CallStatus, Condition, ErrorKind, Evidence


@pytest.fixture
def build() -> Iterator[Callable[..., World]]:
    """Factory of worlds with several regions, which are closed after the test."""
    worlds: list[World] = []

    def make(*regions: str, **named: object) -> World:
        worlds.append(World(1, regions=regions, **named))  # type: ignore[arg-type]
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def test_outage_of_region_postpones_its_requests(build: Callable[..., World]) -> None:
    """They are postponed, rather than fill the hands while others could be worked on."""
    world = build("a", "b", latency=1.0)
    world.publish(64, "b", region="b")
    world.run(lambda: len(world.ended) == 64)
    world.publish(64, "a", region="a")
    world.run(world.loop.now + 0.5)
    (replica,) = world.replicas
    region = replica.throttle.regions["a"]
    assert len(region.queue.items) > 20
    world.dcs.faults["a"] = UNREACHABLE
    world.publish(64, "b2", region="b")
    world.run(lambda: region.breaker.is_blocking, at_most=10)
    world.run(world.loop.now + 0.1)
    assert len(region.queue.items) == 0
    assert not replica.paused_by
    world.run(lambda: sum(name.startswith("b2") for name in world.ended) == 64, at_most=20)
    assert world.outcomes["retried", "breaker"] > 20


def test_regions_share_configured_rate(build: Callable[..., World]) -> None:
    """Neither waits for as long as the other has something to do."""
    world = build("a", "b", rate=20.0)
    world.publish(30, "a0", region="a")
    world.publish(30, "b0", region="b")
    world.publish(300, "a", region="a")
    world.run(2.0)
    world.publish(300, "b", region="b")
    world.run(60.0)
    done = [name[0] for name in world.ended]
    assert min(done.count("a"), done.count("b")) > 60


def ended_with(world: World, prefix: str) -> int:
    """How many requests whose id begins so have ended."""
    return sum(name.startswith(prefix) for name in world.ended)


def test_throttled_region_does_not_fill_the_hands_of_a_replica(build: Callable[..., World]) -> None:
    """Requests that would wait for long in one region wait in the broker, while those of the other flow."""
    world = build("a", "b", reconcile="always")
    world.publish(20, "b", region="b")
    world.run(5.0)
    world.dcs.quotas["a"] = (2, Condition.REGION_THROTTLED)
    world.publish(300, "a", region="a")
    world.run(6.0)
    world.publish(300, "late", region="b")
    world.run(lambda: ended_with(world, "late") == 300, at_most=10)
    assert world.outcomes["retried", "throttled"] > 100
    world.run(lambda: ended_with(world, "a") == 300, at_most=1500)
    assert (world.parked, world.highest_round) == ([], 0)


def test_region_that_hangs_at_the_start_delays_another_by_one_call(build: Callable[..., World]) -> None:
    """One call at a time is made with credentials that are not known to be good: the regions take turns."""
    world = build("a", "b", reconcile="always")
    world.dcs.faults["a"] = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT)
    world.dcs.fault_seconds = 30.0
    world.publish(20, "a", region="a")
    world.publish(20, "b", region="b")
    world.run(lambda: ended_with(world, "b") == 20, at_most=35)
