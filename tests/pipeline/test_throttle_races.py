"""The gate in unlucky moments: nobody waits without end, nobody is forgotten, nothing is remembered for ever."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.pipeline.virtual_time.fakes import DOWN, World
from tests.pipeline.virtual_time.throttle_bench import Bench, an_order, slow
from worker.pipeline import explain
from worker.pipeline.lane import PROBES
from worker.policy.call_result import CallError, Condition, GateClosedError, TaskCreated
from worker.policy.tenants import PROJECTS

Build = Callable[..., World]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench."""
    bench = Bench()
    yield bench
    bench.world.close()


@pytest.fixture
def build() -> Iterator[Build]:
    """Makes a world, and ends it."""
    worlds: list[World] = []

    def make(*regions: str, **named: object) -> World:
        worlds.append(World(1, regions=regions, **named))  # type: ignore[arg-type]
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def test_closed_between_two_lines(bench: Bench) -> None:
    """Who has its turn in its project in the very moment of closing does not begin to wait for the lane."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 4))
    loop = bench.world.loop

    async def hang() -> None:
        async with bench.gate.permit(an_order("hangs", "other")):
            await asyncio.sleep(100)

    async def scene() -> None:
        hanging = [asyncio.ensure_future(hang()) for _ in range(8)]
        waiting = asyncio.ensure_future(bench.call(TaskCreated("i")))
        await asyncio.sleep(0)
        (line,) = bench.lane.lines.values()
        assert len(line) == 1
        loop.now = line._timer_at
        line.move()
        bench.gate.close()
        with pytest.raises(GateClosedError):
            await waiting
        assert loop.now < 5
        for call in hanging:
            call.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    bench.run(scene())
    assert (bench.lane.in_use, bench.gate.in_use) == (0, 0)


@pytest.mark.parametrize("scope", [Condition.PROJECT_THROTTLED, Condition.REGION_THROTTLED])
def test_a_probe_that_is_throttled_invites_no_other(bench: Bench, scope: Condition) -> None:
    """The gateway lives, the service may not: the next probe keeps its time, whichever project it is of."""
    loop = bench.world.loop
    begun: list[float] = []

    async def ask(number: int, ending: CallError) -> None:
        async with bench.gate.permit(an_order(f"r{number}", f"p{number}")) as permit:
            begun.append(loop.now)
            await asyncio.sleep(0.01)
            permit.ended(ending)

    async def scene() -> None:
        for number in range(5):
            await ask(number, DOWN)
        begun.clear()
        calls = [asyncio.ensure_future(ask(100 + number, slow(scope, 1000))) for number in range(60)]
        await asyncio.sleep(30)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    bench.run(scene())
    assert bench.lane.breaker.is_open
    assert 30 / 15 <= len(begun) <= 30 / 2


def test_projects_that_are_forgotten_leave_nothing_behind(bench: Bench) -> None:
    """However many are throttled one after the other, and wait for their turn."""

    async def scene() -> None:
        for number in range(PROJECTS + 50):
            await bench.call(slow(Condition.PROJECT_THROTTLED, 1000), project=f"p{number}")
            await bench.call(TaskCreated("i"), project=f"p{number}")

    bench.run(scene())
    assert len(bench.lane.tenants.known) == PROJECTS
    assert len(bench.lane.lines) <= PROJECTS


def test_what_is_over_is_not_explained(bench: Bench) -> None:
    """A quota that refused nobody for long holds nobody back, also if nobody has called since."""
    bench.calls(slow(Condition.PROJECT_THROTTLED), slow(Condition.REGION_THROTTLED, 100))
    assert len(explain.reasons([bench.lane])) == 2
    bench.run(asyncio.sleep(301))
    assert explain.reasons([bench.lane]) == []
    assert explain.facts(bench.lane).keys() == {"breaker", "limit", "calls", "waiting"}


# Several regions.


def test_when_a_region_falls_sick_its_requests_make_room(build: Build) -> None:
    """All but the next probes step aside at once, rather than fill the hands while others could be worked on."""
    world = build("a", "b", latency=1.0)
    world.publish(64, "b", region="b")
    world.run(lambda: len(world.ended) == 64)
    world.publish(64, "a", region="a")
    world.run(world.loop.now + 0.5)
    (replica,) = world.replicas
    assert len(replica.gate.lanes["a"].line) == 56
    world.service.faults["a"] = DOWN
    world.publish(64, "b2", region="b")
    world.run(lambda: replica.gate.lanes["a"].breaker.is_open, at_most=10)
    world.run(world.loop.now + 0.1)
    assert len(replica.gate.lanes["a"].line) <= PROBES
    assert len(replica.in_hand) - len(replica.gate.lanes["b"].line) > 8


def test_requests_of_an_unused_region_are_taken_from_the_queue(build: Build) -> None:
    """Requests for it may stand behind many for the sick one: done in seconds, and again after any time."""
    world = build("a", "b")
    world.service.faults["a"] = DOWN
    world.publish(200, "a", region="a")
    world.publish(50, "b", region="b")
    world.run(lambda: sum(name.startswith("b") for name in world.ended) == 50, at_most=40)
    world.run(world.loop.now + 700)
    world.publish(50, "c", region="b")
    world.run(lambda: sum(name.startswith("c") for name in world.ended) == 50, at_most=400)
    assert world.parked == []


def test_a_region_that_comes_to_life_is_not_kept_small_by_a_sick_one(build: Build) -> None:
    """While single probes are taken in, the first request of another region opens the intake for all of them."""
    world = build("a", "b")
    (replica,) = world.replicas
    wishes = []

    async def call(region: str, number: int, ending: TaskCreated | CallError) -> None:
        async with replica.gate.permit(replace(an_order(f"r{number}"), region=region)) as permit:
            permit.ended(ending)
        wishes.append((replica.wish.is_paused, replica.wish.prefetch))

    async def scene() -> None:
        for number in range(5):
            await call("a", number, DOWN)
        await asyncio.sleep(31)  # meanwhile the queue is looked through
        await call("a", 5, DOWN)
        await asyncio.sleep(replica.gate.lanes["a"].breaker.wait(world.loop.now))
        wishes.append((replica.wish.is_paused, replica.wish.prefetch))
        await call("b", 6, TaskCreated("i"))

    world.loop.run_until_complete(scene())
    assert wishes[4:] == [(False, 64), (True, 64), (False, 1), (False, 64)]


def test_regions_share_a_rate_that_is_set(build: Build) -> None:
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
