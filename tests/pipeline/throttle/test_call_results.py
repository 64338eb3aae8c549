"""Effects of call results on the throttle, and the reasons that it reports."""

import asyncio

import pytest

from tests.pipeline.virtual_time.fakes import FORBIDDEN, FULL, UNREACHABLE
from tests.pipeline.virtual_time.throttle_bench import REGION, ThrottleBench, throttled
from worker.pipeline import explain
from worker.pipeline.throttle import PROJECTS
from worker.policy.call_result import (
    CallError,
    CallStatus,
    Condition,
    ErrorKind,
    Evidence,
    TaskCreated,
    TaskNotFound,
)
from worker.policy.health import StoppedRegion
from worker.policy.status import HeldBack

STALE = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE)
TIMEOUT = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT)
REJECTED = CallError(Evidence.REFUSED, ErrorKind.REJECTED, CallStatus.ANSWERED, http_status=400, error_code="DCS.4013")
DONE = TaskCreated("i")


def test_healthy_throttle_stops_nothing(bench: ThrottleBench) -> None:
    """No region and no project; the facts are few."""
    now = bench.world.loop.now
    assert (explain.stopped(bench.throttle), explain.paused_projects(bench.throttle)) == ([], [])
    assert explain.facts(bench.region, now) == {"breaker": "closed", "limit": 8, "calls": 0, "waiting": 0}
    assert explain.held_back(bench.region, now) == HeldBack(projects={"throttled": 0})
    assert repr(bench.region) == "<RegionThrottle cn-north-4: 0 in use, 0 waiting, <CircuitBreaker: closed>>"


def test_every_restriction_is_reported(bench: ThrottleBench) -> None:
    """Each with what one wants to know at once: since when, until when, how fast, and who."""
    bench.calls(FULL, project="full")
    bench.calls(throttled(Condition.PROJECT_THROTTLED), project="busy")
    bench.calls(throttled(Condition.PROJECT_THROTTLED), project="busier")
    bench.calls(throttled(Condition.REGION_THROTTLED, 100))
    bench.world.dcs.faults[REGION] = UNREACHABLE
    bench.calls(*[UNREACHABLE] * 5)
    now = bench.world.loop.now
    rates = {name: bench.region.projects[name].limiter.rate for name in ("busy", "busier")}
    (stopped,) = explain.stopped(bench.throttle)
    assert stopped == StoppedRegion(REGION, False, 0.0, stopped.next_probe_seconds, "connection refused")
    assert 2.0 <= stopped.next_probe_seconds <= 2.5
    assert explain.paused_projects(bench.throttle) == [
        f"{REGION} full: DCS refuses it (400 DCS.4035)",
        *(f"{REGION} {name}: limited to {rate:.3g} calls per second after HTTP 429" for name, rate in rates.items()),
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
    held = explain.held_back(bench.region, now)
    assert held.rate == pytest.approx(80, rel=0.1)
    assert held.projects == {"quota": 1, "throttled": 2}


def test_expired_restriction_is_not_reported(bench: ThrottleBench) -> None:
    """A quota that refused nothing for long holds nothing back, also if there was no call since."""
    bench.calls(throttled(Condition.PROJECT_THROTTLED), throttled(Condition.REGION_THROTTLED, 100))
    bench.calls(DONE)
    assert explain.facts(bench.region, bench.world.loop.now).keys() >= {"pace", "throttled"}
    assert explain.paused_projects(bench.throttle) == []  # the last call was accepted
    bench.run(asyncio.sleep(301))
    assert explain.facts(bench.region, bench.world.loop.now).keys() == {"breaker", "limit", "calls", "waiting"}


def test_calls_that_were_not_made_do_not_open_breaker(bench: ThrottleBench) -> None:
    """Neither does one that came too late to be sent: ten of them open no breaker."""
    bench.calls(*[None, STALE] * 10)
    assert (repr(bench.region.breaker), bench.region.in_use, bench.throttle.in_use) == (
        "<CircuitBreaker: closed>",
        0,
        0,
    )


def test_outage_during_project_throttling_opens_breaker_only(bench: ThrottleBench) -> None:
    """Calls of a throttled project that meet the outage open the breaker, and nothing else."""
    bench.calls(throttled(Condition.PROJECT_THROTTLED, 1000))
    bench.calls(*[UNREACHABLE] * 5)
    assert bench.region.breaker.is_blocking
    assert bench.region.projects["p"].reason == "throttled"


def test_rejected_request_ends_project_hold(bench: ThrottleBench) -> None:
    """A rejection of a request shows that its project is accepted; a look-up alone does not."""
    bench.calls(*[FORBIDDEN] * 3)
    held = [bench.region.projects["p"].reason]

    async def scenario() -> None:
        for result in (TaskNotFound(), REJECTED):
            await asyncio.sleep(20)
            await bench.call(result)
            held.append(bench.region.projects["p"].reason if bench.region.projects else "")

    bench.run(scenario())
    assert held == ["credentials", "credentials", ""]
    assert bench.region.projects == {}


def test_recovered_project_is_forgotten(bench: ThrottleBench) -> None:
    """Once the limit that was learnt is forgotten too."""
    bench.calls(throttled(Condition.PROJECT_THROTTLED, 1000))
    assert "p" in bench.region.projects

    async def scenario() -> None:
        await bench.call(DONE)
        await asyncio.sleep(301)
        await bench.call(DONE)

    bench.run(scenario())
    assert bench.region.projects == {}


def test_number_of_remembered_projects_is_bounded(bench: ThrottleBench) -> None:
    """However many are throttled one after the other."""

    async def scenario() -> None:
        for number in range(PROJECTS + 50):
            await bench.call(throttled(Condition.PROJECT_THROTTLED, 1000), project=f"p{number}")

    bench.run(scenario())
    assert len(bench.region.projects) == PROJECTS


def test_timeouts_lower_concurrency_limit(bench: ThrottleBench) -> None:
    """Though too few of them do to open the breaker."""

    async def scenario() -> None:
        for _ in range(40):
            await asyncio.gather(*(bench.call(DONE, f"r{number}") for number in range(40)))
        limit = bench.region.limit.value
        for _ in range(20):
            late = [bench.call(TIMEOUT, f"late{number}", seconds=30.0) for number in range(4)]
            await asyncio.gather(*late, *(bench.call(DONE, f"r{number}", seconds=0.01) for number in range(36)))
        assert bench.region.limit.value < limit / 2

    bench.run(scenario())
    assert bench.replica.breaker_states == []
