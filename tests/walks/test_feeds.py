"""What each part of the service bears, as a gate has found it out in virtual time."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.walks.virtual_time.bench import REGION, Bench, slow
from tests.walks.virtual_time.fakes import DOWN
from worker.flow.feeds import LATELY, feeds
from worker.flow.gate import Gate
from worker.policy.bounds import Bounds
from worker.policy.fault import Condition, Done
from worker.policy.pace import Pace
from worker.policy.replicas import Feed


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench."""
    bench = Bench()
    yield bench
    bench.world.close()


def seen(bench: Bench) -> list[Feed]:
    """What a scrape would go by."""
    return feeds(bench.gate.lanes.values())


def test_nothing_is_known_at_first(bench: Bench) -> None:
    """No bound was met: as much as is asked of it."""
    bench.calls(Done("i"))
    assert seen(bench) == [Feed(0)]


def test_a_quota_is_what_was_learnt_and_what_was_named(bench: Bench) -> None:
    """A quarter of a hundred, which may be shared by others."""
    bench.calls(slow(Condition.REGION_THROTTLED, 100))
    assert seen(bench) == [Feed(0, False, 25.0, 100.0)]


def test_an_outage_feeds_nobody(bench: Bench) -> None:
    """While the breaker is open."""
    bench.calls(*[DOWN] * 5)
    assert [feed.is_sick for feed in seen(bench)] == [True]


def test_what_is_in_hand_counts_and_a_throttled_project_by_itself(bench: Bench) -> None:
    """Ten calls under way or waiting; all of the throttled project, which may make one a second, are held back."""

    async def scene() -> None:
        free = [bench.call(Done("i"), f"f{number}", "free", 5.0) for number in range(10)]
        slowed = [bench.call(Done("i"), f"s{number}", "p", 0.01) for number in range(4)]
        tasks = [asyncio.ensure_future(call) for call in (*slowed, *free)]
        await asyncio.sleep(0.5)
        region, project = seen(bench)
        assert (region, project) == (Feed(10), Feed(4, False, 1.0, 1.0))
        await asyncio.gather(*tasks)

    bench.calls(slow(Condition.PROJECT_THROTTLED, 1), project="p")
    bench.run(scene())


def test_calls_of_a_throttled_project_are_its_own(bench: Bench) -> None:
    """What is under way for it is not in the region's hands: more of the region would not help it."""

    async def scene() -> None:
        await asyncio.sleep(2.0)
        call = asyncio.ensure_future(bench.call(Done("i"), "s", "p", 0.5))
        await asyncio.sleep(0.1)
        region, project = seen(bench)
        assert (region.hands, project.hands, project.quota) == (0.0, 1.0, 4.0)
        await call

    bench.calls(slow(Condition.PROJECT_THROTTLED, 4), project="p")
    bench.run(scene())


def test_calls_that_wait_because_more_at_once_are_slower_are_fed_no_faster(bench: Bench) -> None:
    """With a lowered limit what passes is what is borne; while nothing waits nobody can tell."""

    async def scene() -> None:
        tasks = [asyncio.ensure_future(bench.call(Done("i"), f"r{number}", seconds=3.0)) for number in range(12)]
        await asyncio.sleep(0.5)
        assert seen(bench) == [Feed(12)]  # a new worker begins with eight, for no reason
        bench.lane.limit.restart(bench.lane.clock())
        assert seen(bench) == [Feed(12, False, 8.0)]
        await asyncio.gather(*tasks)
        assert seen(bench) == [Feed(0)]

    bench.run(scene())


def test_regions_that_are_not_used_do_not_count(bench: Bench) -> None:
    """Ten minutes after its last request a region holds nobody back; before any request all count."""
    now = 0.0
    gate = Gate(Bounds((REGION, "other"), 64, 30.0, (60.0,)), bench.replica, clock=lambda: now)
    assert len(feeds(gate.lanes.values())) == 2
    gate.lanes[REGION].used_at = now
    assert len(feeds(gate.lanes.values())) == 1
    gate.lanes["other"].used_at = now - LATELY + 1
    assert len(feeds(gate.lanes.values())) == 2


def test_a_set_rate_is_no_bound_until_it_is_refused() -> None:
    """What each replica may make grows with the replicas, unless the service refuses it: then what is made is borne."""
    pace = Pace(10.0)
    pace.begin(0.0)
    assert pace.borne(0.1) is None
    pace.refused(0.0, 0.2, None, None)
    assert pace.borne(0.9) == 1.0
    assert pace.borne(70.0) is None
