"""The throttle by itself in virtual time: permits, waits, what is said of them, and moments in which things meet."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.pipeline.virtual_time.event_loop import VirtualTime
from tests.pipeline.virtual_time.fakes import DOWN, FORBIDDEN, FULL, World
from tests.pipeline.virtual_time.throttle_bench import REGION, Bench, a_migration, slow
from worker.pipeline import explain
from worker.pipeline.probes import PROBE_TIMEOUT_SECONDS, Part, Probes
from worker.pipeline.throttle import PROJECTS
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    Condition,
    ErrorKind,
    ErrorScope,
    Evidence,
    PostponedError,
    TaskCreated,
    TaskNotFound,
    ThrottleClosedError,
)
from worker.policy.status import HeldBack
from worker.policy.throttle.hold import REGION_TIMES, Hold

STALE = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE)
TIMEOUT = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT)
BAD = CallError(Evidence.REFUSED, ErrorKind.REJECTED, CallStatus.ANSWERED, http_status=400)
DONE = TaskCreated("i")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench whose credentials were accepted once."""
    bench = Bench()
    bench.calls(DONE)
    yield bench
    bench.world.close()


@pytest.fixture
def build() -> Iterator[Callable[..., World]]:
    """Makes a world of several regions, and ends it."""
    worlds: list[World] = []

    def make(*regions: str, **named: object) -> World:
        worlds.append(World(1, regions=regions, **named))  # type: ignore[arg-type]
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


# What is said.


def test_in_good_health_there_is_nothing_to_explain(bench: Bench) -> None:
    """No reason; the facts are few."""
    now = bench.world.loop.now
    assert explain.reasons(bench.throttle) == []
    assert explain.facts(bench.region, now) == {"breaker": "closed", "limit": 8, "calls": 0, "waiting": 0}
    assert explain.held_back(bench.region, now, 1000.0) == HeldBack(projects={"throttled": 0})
    assert repr(bench.region) == "<RegionThrottle cn-north-4: 0 in use, 0 waiting, <CircuitBreaker: closed>>"


def test_everything_that_holds_requests_back_is_explained(bench: Bench) -> None:
    """Each with what one wants to know at once: since when, until when, how fast, and who."""
    bench.calls(FULL, project="full")
    bench.calls(slow(Condition.PROJECT_THROTTLED), project="busy")
    bench.calls(slow(Condition.PROJECT_THROTTLED), project="busier")
    bench.calls(slow(Condition.REGION_THROTTLED, 100))
    bench.world.service.faults[REGION] = DOWN
    bench.calls(*[DOWN] * 5)
    now = bench.world.loop.now
    assert explain.reasons(bench.throttle) == [
        "cn-north-4: the breaker has been open for 0 s, the next probe is in 2 s",
        "cn-north-4: calls are paced at 80.6 per second by a quota",
        "cn-north-4: 2 projects are throttled",
        "cn-north-4: 1 project is held, being refused or full",
    ]
    facts = explain.facts(bench.region, now)
    assert 2.0 <= facts.pop("next_probe_in") <= 2.5
    assert facts == {
        "breaker": "open",
        "limit": 1,
        "calls": 0,
        "waiting": 0,
        "open_for": 0.0,
        "pace": pytest.approx(80, rel=0.1),
        "quota": 100.0,
        "throttled": 2,
        "throttled_projects": "busy, busier",
        "held": 1,
        "held_projects": "full (quota)",
    }
    held = explain.held_back(bench.region, now, 1000.0)
    assert held.opened_at == pytest.approx(1000, abs=0.5)
    assert 2 <= held.probe_at - held.opened_at <= 2.5
    assert held.rate == pytest.approx(80, rel=0.1)
    assert held.projects == {"quota": 1, "throttled": 2}


def test_what_is_over_is_not_explained(bench: Bench) -> None:
    """A quota that refused nothing for long holds nothing back, also if there was no call since."""
    bench.calls(slow(Condition.PROJECT_THROTTLED), slow(Condition.REGION_THROTTLED, 100))
    bench.calls(DONE)
    assert len(explain.reasons(bench.throttle)) == 2
    bench.run(asyncio.sleep(301))
    assert explain.reasons(bench.throttle) == []
    assert explain.facts(bench.region, bench.world.loop.now).keys() == {"breaker", "limit", "calls", "waiting"}


# What results tell.


def test_a_call_that_was_not_made_tells_nothing(bench: Bench) -> None:
    """Neither does one that came too late to be sent: ten of them open no breaker."""
    bench.calls(*[None, STALE] * 10)
    assert (repr(bench.region.breaker), bench.region.in_use, bench.throttle.in_use) == (
        "<CircuitBreaker: closed>",
        0,
        0,
    )


def test_an_outage_is_no_project_s_fault(bench: Bench) -> None:
    """Calls of a throttled project that meet the outage open the breaker, and nothing else."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 1000))
    bench.calls(*[DOWN] * 5)
    assert bench.region.breaker.is_blocking
    assert bench.region.projects["p"].reason == "throttled"


def test_a_bad_request_of_a_held_project_shows_that_it_is_let_in(bench: Bench) -> None:
    """What judges a request has let its project in; a look-up alone shows nothing."""
    bench.calls(*[FORBIDDEN] * 3)
    held = [bench.region.projects["p"].reason]

    async def scene() -> None:
        for result in (TaskNotFound(), BAD):
            await asyncio.sleep(20)
            await bench.call(result)
            held.append(bench.region.projects["p"].reason if bench.region.projects else "")

    bench.run(scene())
    assert held == ["credentials", "credentials", ""]
    assert bench.region.projects == {}


def test_a_project_that_is_well_again_is_forgotten(bench: Bench) -> None:
    """Once the limit that was learnt is forgotten too."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 1000))
    assert "p" in bench.region.projects

    async def scene() -> None:
        await bench.call(DONE)
        await asyncio.sleep(301)
        await bench.call(DONE)

    bench.run(scene())
    assert bench.region.projects == {}


def test_projects_that_are_remembered_are_bounded(bench: Bench) -> None:
    """However many are throttled one after the other."""

    async def scene() -> None:
        for number in range(PROJECTS + 50):
            await bench.call(slow(Condition.PROJECT_THROTTLED, 1000), project=f"p{number}")

    bench.run(scene())
    assert len(bench.region.projects) == PROJECTS


def test_calls_that_time_out_shrink_the_limit(bench: Bench) -> None:
    """Though too few of them do to open the breaker."""

    async def scene() -> None:
        for _ in range(40):
            await asyncio.gather(*(bench.call(DONE, f"r{number}") for number in range(40)))
        limit = bench.region.limit.value
        for _ in range(20):
            late = [bench.call(TIMEOUT, f"late{number}", seconds=30.0) for number in range(4)]
            await asyncio.gather(*late, *(bench.call(DONE, f"r{number}", seconds=0.01) for number in range(36)))
        assert bench.region.limit.value < limit / 2

    bench.run(scene())
    assert bench.replica.breaker_states == []


# Tokens.


def test_look_and_create_are_paid_together_and_further_calls_are_owed() -> None:
    """Ten calls a second: two at once, three more pages, and the next two calls are due half a second later."""
    world = World(1, rate=10.0)

    async def scene() -> None:
        throttle, begun = world.replicas[0].throttle, world.loop.now
        async with throttle.permit(a_migration(), 2) as permit:
            for _ in range(5):
                permit.begin_call()
            permit.ended(DONE)
        async with throttle.permit(a_migration("next"), 2):
            assert world.loop.now - begun == pytest.approx(0.5, abs=0.01)

    world.loop.run_until_complete(scene())
    world.close()


def test_a_create_that_is_not_made_is_not_paid() -> None:
    """The look found the task: its permit's second call is given back."""
    world = World(1, rate=10.0)

    async def scene() -> None:
        throttle, begun = world.replicas[0].throttle, world.loop.now
        for number in range(11):
            async with throttle.permit(a_migration(f"r{number}"), 2) as permit:
                permit.begin_call()
                permit.ended(TaskNotFound())
        assert world.loop.now - begun == pytest.approx(1.0, abs=0.02)

    world.loop.run_until_complete(scene())
    world.close()


# Waiting.


def test_no_request_waits_longer_than_a_minute(bench: Bench) -> None:
    """Calls that hang keep nothing in hand for longer."""

    async def scene() -> None:
        begun = bench.world.loop.now
        hanging = [asyncio.ensure_future(bench.call(DONE, f"h{number}", seconds=100)) for number in range(8)]
        await asyncio.sleep(1)
        with pytest.raises(PostponedError, match="turn: 0 s"):
            await bench.call(DONE)
        assert bench.world.loop.now - begun == pytest.approx(61, abs=0.1)
        await asyncio.gather(*hanging)

    bench.run(scene())
    assert (bench.region.in_use, len(bench.region.queue)) == (0, 0)


def test_a_throttled_request_is_postponed_rather_than_kept_in_hand(bench: Bench) -> None:
    """One call per five minutes: it waits in the broker."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 1, 300.0))
    with pytest.raises(PostponedError, match="throttled: 10 s"):
        bench.calls(DONE)
    assert bench.region.in_use == 0


def test_trouble_that_comes_while_a_request_waits_is_heeded(bench: Bench) -> None:
    """Those who wait when their project turns out to be full are postponed at once."""

    async def scene() -> None:
        waiting = [asyncio.ensure_future(bench.call(FULL, f"r{number}")) for number in range(100)]
        endings = await asyncio.gather(*waiting, return_exceptions=True)
        aside = [ending for ending in endings if isinstance(ending, PostponedError)]
        assert len(aside) == 92
        assert {ending.why for ending in aside} == {"quota"}

    bench.run(scene())
    assert (bench.region.in_use, len(bench.region.queue)) == (0, 0)


def test_a_throttled_project_does_not_hold_up_others_that_wait_behind_it(bench: Bench) -> None:
    """They go while it waits for its turn."""
    bench.calls(slow(Condition.PROJECT_THROTTLED, 2))

    async def scene() -> None:
        slowed = [asyncio.ensure_future(bench.call(DONE, f"s{number}")) for number in range(4)]
        await asyncio.sleep(0)
        begun = bench.world.loop.now
        await asyncio.gather(*(bench.call(DONE, f"o{number}", "other") for number in range(20)))
        assert bench.world.loop.now - begun < 0.1
        await asyncio.gather(*slowed)
        assert bench.world.loop.now - begun > 1.0

    bench.run(scene())


def test_until_the_credentials_were_accepted_one_call_is_under_way() -> None:
    """In all regions together; then all go."""
    bench = Bench(regions=(REGION, "other"))

    async def call(number: int, seconds: float) -> None:
        migration = a_migration(f"r{number}")
        async with bench.throttle.permit(migration, 1) as permit:
            permit.begin_call()
            most.append(bench.throttle.in_use)
            await asyncio.sleep(seconds)
            permit.ended(DOWN if number < 2 else DONE)

    most: list[int] = []
    bench.run(_together(*(call(number, 1.0) for number in range(8))))
    assert most[:3] == [1, 1, 1]
    assert max(most) == 5
    bench.world.close()


async def _together(*calls: "asyncio._CoroutineLike[None]") -> None:
    await asyncio.gather(*calls)


# Closing.


def test_closed_in_the_moment_of_its_turn(bench: Bench) -> None:
    """Who was told to go, but has not gone yet, does not go."""

    async def scene() -> None:
        hanging = [asyncio.ensure_future(bench.call(DONE, f"r{number}", seconds=5)) for number in range(8)]
        await asyncio.sleep(1)
        next_one = asyncio.ensure_future(bench.call(DONE, "next"))
        await asyncio.sleep(0)
        assert len(bench.region.queue) == 1
        hanging[0].cancel()
        while len(bench.region.queue):
            await asyncio.sleep(0)
        bench.throttle.close()
        with pytest.raises(ThrottleClosedError):
            await next_one
        await asyncio.gather(*hanging, return_exceptions=True)

    bench.run(scene())
    assert (bench.region.in_use, bench.throttle.in_use) == (0, 0)
    with pytest.raises(ThrottleClosedError):
        bench.calls(DONE)


def test_closed_with_one_that_was_cancelled_in_the_queue(bench: Bench) -> None:
    """Every other one is sent away."""

    async def scene() -> None:
        calls = [asyncio.ensure_future(bench.call(DONE, f"r{number}")) for number in range(11)]
        await asyncio.sleep(0)
        calls[9].cancel()
        await asyncio.sleep(0)
        bench.throttle.close()
        endings = await asyncio.gather(*calls, return_exceptions=True)
        closed, cancelled = ThrottleClosedError, asyncio.CancelledError
        assert [type(ending) for ending in endings[8:]] == [closed, cancelled, closed]

    bench.run(scene())
    assert bench.region.in_use == 0


def test_a_closed_throttle_sends_no_more_probes(bench: Bench) -> None:
    """And leaves no timer and no task behind."""
    bench.world.service.faults[REGION] = DOWN
    bench.calls(*[DOWN] * 5)
    bench.run(asyncio.sleep(20))
    probes = len(bench.probes)
    assert probes >= 3
    bench.throttle.close()
    bench.run(asyncio.sleep(60))
    assert len(bench.probes) == probes


# SeveralTasks regions.


def test_when_a_region_falls_sick_its_requests_make_room(build: Callable[..., World]) -> None:
    """They are postponed, rather than fill the hands while others could be worked on."""
    world = build("a", "b", latency=1.0)
    world.publish(64, "b", region="b")
    world.run(lambda: len(world.ended) == 64)
    world.publish(64, "a", region="a")
    world.run(world.loop.now + 0.5)
    (replica,) = world.replicas
    region = replica.throttle.regions["a"]
    assert len(region.queue) > 20
    world.service.faults["a"] = DOWN
    world.publish(64, "b2", region="b")
    world.run(lambda: region.breaker.is_blocking, at_most=10)
    world.run(world.loop.now + 0.1)
    assert len(region.queue) == 0
    assert not replica.paused_by
    world.run(lambda: sum(name.startswith("b2") for name in world.ended) == 64, at_most=20)
    assert world.outcomes["retried", "breaker"] > 20


def test_regions_share_a_rate_that_is_set(build: Callable[..., World]) -> None:
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


# Probes.


@pytest.mark.parametrize("failure", ["hangs", "raises"])
def test_probe_that_gives_no_result_is_followed_by_the_next(failure: str) -> None:
    """A probe that hangs is abandoned after some seconds; a defect of the worker does not end the probes."""
    clock, sent = VirtualTime(), []

    async def send(*_: str) -> CallResult:
        sent.append(clock.now)
        if len(sent) < 3:
            if failure == "raises":
                raise RuntimeError("defect")
            await asyncio.Event().wait()
        return DONE

    def on_result(part: Part, _: str, result: CallResult) -> None:
        part.probe_ended(False if result is DONE else None, "", clock.now, 0.0)

    async def scene() -> None:
        hold = Hold("region", (ErrorScope.REGION,), REGION_TIMES)
        probes: Probes[str] = Probes(send, on_result, lambda: clock.now, lambda: 0.0)
        hold.refused("no", clock.now, 0.0)
        probes.begin(hold, "r")
        while hold.is_blocking:
            await asyncio.sleep(0.5)
        probes.close()

    clock.run_until_complete(scene())
    clock.close()
    assert len(sent) == 3
    assert sent[-1] - sent[0] <= 2 * PROBE_TIMEOUT_SECONDS + 2
