"""The gate by itself: what it says of its lanes, and the moments in which two things happen at once."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.pipeline.virtual_time.fakes import DOWN, FULL, UNAUTHENTICATED
from tests.pipeline.virtual_time.throttle_bench import Bench, an_order, slow
from worker.pipeline import explain
from worker.policy.call_result import (
    CallError,
    CallStatus,
    Condition,
    ErrorKind,
    Evidence,
    GateClosedError,
    LookupResult,
    StepAsideError,
    TaskCreated,
    TaskNotFound,
)
from worker.policy.held import Held

STALE = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE)
TIMEOUT = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT)
BAD = CallError(Evidence.REFUSED, ErrorKind.REJECTED, CallStatus.ANSWERED, http_status=400)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench."""
    bench = Bench()
    yield bench
    bench.world.close()


def test_in_good_health_there_is_nothing_to_explain(bench: Bench) -> None:
    """No reason; the facts are few."""
    bench.calls(TaskCreated("i"))
    assert explain.reasons([bench.lane]) == []
    assert explain.facts(bench.lane) == {"breaker": "closed", "limit": 8, "calls": 0, "waiting": 0}
    assert explain.held(bench.lane, 1000.0) == Held(projects={"throttled": 0})
    assert repr(bench.lane).startswith("<Lane cn-north-4: 0 in use, <Breaker: closed>, <Limit: 8>, <Pace: none>")


def test_everything_that_holds_requests_back_is_explained(bench: Bench) -> None:
    """Each with what one wants to know at once: since when, until when, how fast, and who."""
    bench.calls(*[FULL] * 5, project="full")
    bench.calls(slow(Condition.PROJECT_THROTTLED), project="busy")
    bench.calls(slow(Condition.PROJECT_THROTTLED), project="busier")
    bench.calls(slow(Condition.REGION_THROTTLED, 100))
    bench.calls(*[DOWN] * 5)
    assert explain.reasons([bench.lane]) == [
        "cn-north-4: the breaker has been open for 0 s, the next probe is in 2 s",
        "cn-north-4: calls are paced at 25 per second by a quota",
        "cn-north-4: 2 projects are throttled",
        "cn-north-4: 1 project is held, being refused or full",
    ]
    facts = explain.facts(bench.lane)
    assert facts.pop("pace") == pytest.approx(25, rel=0.1)
    assert facts == {
        "breaker": "open",
        "limit": 6,
        "calls": 0,
        "waiting": 0,
        "open_for": 0.0,
        "next_probe_in": 2.0,
        "quota": 100.0,
        "throttled": 2,
        "throttled_projects": "busy, busier",
        "held": 1,
        "held_projects": "full (quota)",
    }
    held = explain.held(bench.lane, 1000.0)
    assert held.opened_at == pytest.approx(1000, abs=0.5)
    assert held.probe_at - held.opened_at == pytest.approx(2, abs=0.1)
    assert held.rate == pytest.approx(25, rel=0.1)
    assert held.projects == {"quota": 1, "throttled": 2}


def test_a_call_that_was_not_made_tells_nothing(bench: Bench) -> None:
    """Neither does one that came too late to be sent: ten of them open no breaker."""
    bench.calls(*[None, STALE] * 10)
    assert (repr(bench.lane.breaker), bench.lane.in_use, bench.gate.in_use) == ("<Breaker: closed>", 0, 0)


def test_a_probe_that_was_not_made_leaves_its_turn_to_the_next(bench: Bench) -> None:
    """As when its delivery turns out to be gone."""

    async def scene() -> None:
        for number in range(5):
            await bench.call(DOWN, f"r{number}")
        begun = bench.world.loop.now
        await asyncio.gather(bench.call(None, "gone"), bench.call(TaskCreated("i"), "next"))
        assert bench.world.loop.now - begun < 2.1

    bench.run(scene())
    assert bench.replica.breaker_states == [2, 1, 2, 1, 0]


def test_an_outage_is_no_project_s_fault(bench: Bench) -> None:
    """Calls of a throttled project that meet the outage open the breaker, and nothing else."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 1000))
    bench.calls(*[DOWN] * 5)
    assert bench.lane.breaker.is_open
    assert not bench.lane.tenants.known["p"].hold.is_open


def test_a_bad_request_of_a_held_project_shows_that_the_credentials_are_good(bench: Bench) -> None:
    """Whoever judges a request has let its sender in; a look-up alone shows nothing."""
    bench.calls(*[UNAUTHENTICATED] * 5)
    tenant = bench.lane.tenants.known["p"]
    held = [tenant.hold.is_open]

    async def scene(ending: LookupResult | CallError) -> None:
        await asyncio.sleep(20)
        await bench.call(ending)

    for ending in (TaskNotFound(), BAD):
        bench.run(scene(ending))
        held.append(tenant.hold.is_open)
    assert held == [True, True, False]
    assert bench.lane.tenants.known == {}


def test_a_project_that_is_well_again_is_forgotten(bench: Bench) -> None:
    """Once the pace that was learnt is forgotten too."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 1000))
    assert "p" in bench.lane.tenants.known

    async def scene() -> None:
        await asyncio.sleep(301)
        await bench.call(TaskCreated("i"))

    bench.run(scene())
    assert bench.lane.tenants.known == {}


def test_a_wait_for_a_permit_ends_after_a_minute(bench: Bench) -> None:
    """One call per five minutes:  a request waits in the broker."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 1, 300.0))

    async def scene() -> None:
        begun = bench.world.loop.now
        with pytest.raises(StepAsideError, match="throttled: 0 s") as aside:
            await bench.call(TaskCreated("i"))
        assert (aside.value.seconds, aside.value.why) == (0.0, "throttled")
        assert bench.world.loop.now - begun == pytest.approx(60, abs=0.1)

    bench.run(scene())
    assert bench.lane.in_use == 0


def test_a_full_lane_is_left_after_a_minute(bench: Bench) -> None:
    """Calls that hang keep nobody in hand for longer."""

    async def hang() -> None:
        async with bench.gate.permit(an_order()):
            await asyncio.sleep(100)

    async def scene() -> None:
        hanging = [asyncio.ensure_future(hang()) for _ in range(8)]
        await asyncio.sleep(1)
        with pytest.raises(StepAsideError, match="turn: 0 s"):
            await bench.call(TaskCreated("i"))
        assert bench.world.loop.now == pytest.approx(61, abs=0.1)
        await asyncio.gather(*hanging)

    bench.run(scene())


def test_trouble_that_comes_while_a_request_waits_is_heeded(bench: Bench) -> None:
    """Those who stand in the lane when their project is refused step aside when their turn comes."""

    async def scene() -> None:
        waiting = [asyncio.ensure_future(bench.call(UNAUTHENTICATED, f"r{number}")) for number in range(100)]
        endings = await asyncio.gather(*waiting, return_exceptions=True)
        aside = [ending for ending in endings if isinstance(ending, StepAsideError)]
        assert len(aside) == 92
        assert {ending.why for ending in aside} == {"credentials"}

    bench.run(scene())
    assert (bench.lane.in_use, len(bench.lane.line)) == (0, 0)


def test_calls_that_time_out_shrink_the_limit(bench: Bench) -> None:
    """Though too few of them do to open the breaker."""

    async def scene() -> None:
        for _ in range(40):
            await asyncio.gather(*(bench.call(TaskCreated("i"), f"r{number}") for number in range(40)))
        limit = bench.lane.limit.value
        for _ in range(20):
            late = [bench.call(TIMEOUT, f"late{number}", seconds=30.0) for number in range(4)]
            await asyncio.gather(
                *late, *(bench.call(TaskCreated("i"), f"r{number}", seconds=0.01) for number in range(36))
            )
        assert bench.lane.limit.value < limit / 2

    bench.run(scene())
    assert bench.replica.breaker_states == []


def test_closed_in_the_moment_of_its_turn(bench: Bench) -> None:
    """Who was told to go, but has not gone yet, does not go."""

    async def scene() -> None:
        hanging = [asyncio.ensure_future(bench.call(TaskCreated("i"), f"r{number}")) for number in range(8)]
        await asyncio.sleep(0)
        next_one = asyncio.ensure_future(bench.call(TaskCreated("i"), "next"))
        await asyncio.sleep(0)
        assert len(bench.lane.line) == 1
        bench.lane.in_use -= 1
        bench.lane.line.move()
        bench.lane.in_use += 1
        bench.gate.close()
        with pytest.raises(GateClosedError):
            await next_one
        await asyncio.gather(*hanging)

    bench.run(scene())
    assert bench.lane.in_use == 0
    with pytest.raises(GateClosedError):
        bench.calls(TaskCreated("i"))


def test_closed_with_one_that_was_cancelled_in_the_line(bench: Bench) -> None:
    """Everybody else is sent away."""

    async def scene() -> None:
        calls = [asyncio.ensure_future(bench.call(TaskCreated("i"), f"r{number}")) for number in range(11)]
        await asyncio.sleep(0)
        calls[9].cancel()
        await asyncio.sleep(0)
        bench.gate.close()
        endings = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(ending) for ending in endings[8:]] == [GateClosedError, asyncio.CancelledError, GateClosedError]

    bench.run(scene())
    assert bench.lane.in_use == 0


def test_a_cancelled_turn_in_a_project_is_not_lost_to_others(bench: Bench) -> None:
    """The pace goes on, and the next one has its turn."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 4))

    async def scene() -> None:
        waiting = [asyncio.ensure_future(bench.call(TaskCreated("i"), f"r{number}")) for number in range(3)]
        await asyncio.sleep(0)
        line = bench.lane.lines["p"]
        assert len(line) == 3
        assert repr(line) == "<Line: 3 waiting>"
        while len(line) == 3:
            await asyncio.sleep(0.001)
        waiting[0].cancel()
        begun = bench.world.loop.now
        await asyncio.gather(*waiting, return_exceptions=True)
        assert waiting[2].result() is None
        assert bench.world.loop.now - begun < 5

    bench.run(scene())
