"""Quotas, and projects that are throttled or refused."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.pipeline.virtual_time.fakes import FORBIDDEN, FULL
from tests.pipeline.virtual_time.world import World
from worker.policy.call_result import CallError, Condition

REGION = "cn-north-4"
Build = Callable[..., World]


@pytest.mark.parametrize("scope", [Condition.REGION_THROTTLED, Condition.PROJECT_THROTTLED])
def test_unknown_quota_is_learnt(build: Build, scope: Condition) -> None:
    """100 calls per second over two replicas: nine tenths used from 20 s on, one in twenty refused at most."""
    world = build(2)
    world.dcs.quotas[REGION if scope is Condition.REGION_THROTTLED else "p1"] = (100, scope)
    world.publish(8000)
    world.run(60.0)
    assert world.dcs.calls_between(20, 60, "ok") >= 40 * 100 * 0.9
    assert world.dcs.calls_between(20, 60, "429") <= world.dcs.calls_between(20, 60) * 0.05
    assert world.parked == []


def test_lowered_quota_is_followed(build: Build) -> None:
    """Down to 30 within 15 s."""
    world = build(2)
    world.dcs.quotas[REGION] = (100, Condition.REGION_THROTTLED)
    world.publish(8000)
    world.run(30.0)
    world.dcs.quotas[REGION] = (30, Condition.REGION_THROTTLED)
    world.run(75.0)
    assert world.dcs.calls_between(45, 75, "ok") >= 30 * 30 * 0.9
    assert world.dcs.calls_between(45, 75, "429") <= world.dcs.calls_between(45, 75) * 0.05


@pytest.mark.parametrize("scope", [Condition.REGION_THROTTLED, Condition.PROJECT_THROTTLED])
@pytest.mark.parametrize(("replicas", "calls_per_second"), [(1, 1), (2, 2), (4, 2)])
def test_limit_of_less_than_two_calls_in_its_window_is_used(
    build: Build, scope: Condition, replicas: int, calls_per_second: int
) -> None:
    """Look and create, begun together, would exceed it each time: a third of it is used at least, and none waits."""
    world = build(replicas, reconcile="always")
    world.dcs.quotas[REGION if scope is Condition.REGION_THROTTLED else "p1"] = (calls_per_second, scope)
    world.publish(40)
    world.run(lambda: len(world.ended) == 40, at_most=3 * 40 * 2 / calls_per_second)
    assert set(world.dcs.created.values()) == {1}
    assert world.parked == []


def test_configured_rate_is_kept(build: Build) -> None:
    """Twenty calls per second, in all regions together, from the first second on."""
    world = build(1, rate=20.0, regions=("a", "b"))
    world.publish(400, "a", region="a")
    world.publish(400, "b", region="b")
    world.run(20.0)
    assert 380 <= len(world.dcs.calls) <= 402
    assert max(world.dcs.calls_between(second, second + 1) for second in range(1, 19)) <= 22


def test_prefetch_follows_rate(build: Build) -> None:
    """Ten calls per second need no prefetch of 64: other replicas get the rest, and the prefetch rarely changes."""
    world = build(1, reconcile="ambiguous")
    world.dcs.quotas[REGION] = (10, Condition.REGION_THROTTLED)
    world.publish(2000)
    world.run(60.0)
    (replica,) = world.replicas
    assert len(replica.unacked) <= 16
    assert replica.limits[-1] <= 8
    assert len(replica.consumption_changes) <= 6
    assert not [state for state in world.outcomes if state[1] == "turn"]


def requests_of_nine_projects(world: World) -> list[str]:
    """Twenty requests of each of nine projects; their ids."""
    return [name for project in range(9) for name in world.publish(20, f"p{project}", project_id=f"other{project}")]


def test_throttled_project_does_not_delay_other_projects(build: Build) -> None:
    """5,000 requests of it, and nine projects with 20 each behind them: done within thrice the time they take alone."""
    alone = build(1, latency=0.5)
    others = requests_of_nine_projects(alone)
    expected = alone.run(lambda: len(alone.ended) == len(others))
    world = build(1, latency=0.5)
    world.dcs.quotas["p1"] = (5, Condition.PROJECT_THROTTLED)
    crowd = world.publish(5000)
    others = requests_of_nine_projects(world)
    assert world.run(lambda: world.ended.keys() >= set(others)) <= expected * 3
    assert world.replicas[0].limits[-1] >= 16
    started_at, done = world.loop.now, len(world.ended)
    world.run(started_at + 300)
    assert len(world.ended) - done >= 300 * 5 / 2 * 0.6  # each is looked for first, so that two calls are one request
    assert (world.parked, world.highest_round) == ([], 0)
    assert not set(crowd) & {name for name, (_, reason) in world.ended.items() if reason != "created"}


@pytest.mark.parametrize(
    ("projects", "replicas", "refused", "names_limits"),
    [(8, 1, 0.06, True), (8, 2, 0.09, True), (5, 1, 0.06, False), (8, 2, 0.09, False)],
)
def test_quota_of_account_is_shared_by_its_projects(
    build: Build, projects: int, replicas: int, refused: float, names_limits: bool
) -> None:
    """Its 429s name one project each: all are paced together, few calls are refused, and no project is left behind.

    Also if the text has no time (`policy user over ratelimit,limit:10`), so that the rate is learnt.
    """
    world = build(replicas)
    world.dcs.names_limits = names_limits
    world.dcs.quotas[REGION] = (20, Condition.PROJECT_THROTTLED)
    for number in range(300):
        for project in range(projects):
            world.publish(1, f"p{project}-{number}", project_id=f"p{project}")
    world.run(120.0)
    assert world.dcs.calls_between(20, 120, "ok") >= 100 * 20 * 0.88
    assert world.dcs.calls_between(20, 120, "429") <= world.dcs.calls_between(20, 120) * refused
    ended = Counter(name.split("-")[0] for name in world.ended)
    assert min(ended.values()) >= max(ended.values()) / 3
    assert (world.parked, world.highest_round) == ([], 0)


@pytest.mark.parametrize("replicas", [1, 2])
def test_projects_with_quotas_of_their_own_use_them(build: Build, replicas: int) -> None:
    """Throttled at the same moment by chance, they are soon as fast as alone; others are never delayed."""
    world = build(replicas)
    for project in ("p0", "p1", "p2"):
        world.dcs.quotas[project] = (5, Condition.PROJECT_THROTTLED)
        world.publish(700, project, project_id=project)
    others = requests_of_nine_projects(world)
    assert world.run(lambda: world.ended.keys() >= set(others)) <= 10
    world.run(140.0)
    assert world.dcs.calls_between(40, 140, "ok") >= 100 * 3 * 5 * 0.65
    assert world.parked == []


@pytest.mark.parametrize(("fault", "reason"), [(FORBIDDEN, "credentials"), (FULL, "quota")])
def test_refused_project_fails_few_requests(build: Build, fault: CallError, reason: str) -> None:
    """Three fail at most, and those in flight; the others are postponed at no cost, and processed later."""
    world = build(1, reconcile="ambiguous")  # calls are counted
    world.dcs.faults["p1"] = fault
    world.publish(1000)
    others = requests_of_nine_projects(world)
    world.run(lambda: world.ended.keys() >= set(others), at_most=60)
    (replica,) = world.replicas
    assert [fields["reason"] for fields in replica.logged("project.paused")] == [reason]
    world.run(120.0)
    calls = [at for at, operation, project, _ in world.dcs.calls if (operation, project) == ("create", "p1")]
    assert len(calls) <= 3 + 8 + 6
    assert world.outcomes["retried", reason] >= 1000 - len(calls)
    del world.dcs.faults["p1"]
    world.run(lambda: len(world.ended) == 1180, at_most=8000)
    assert replica.logged("project.resumed")
    assert len(world.parked) == (0 if fault is FULL else len(calls))
    assert list(world.dcs.created.values()) == [1] * (1180 - len(world.parked))


def test_single_rejections_do_not_hold_project(build: Build) -> None:
    """As long as others of the project are accepted."""
    world = build(1)
    for number in range(40):
        world.dcs.faults["p1"] = FORBIDDEN
        world.publish(2, f"bad{number}")
        world.run(world.loop.now + 1)
        del world.dcs.faults["p1"]
        world.publish(1, f"good{number}")
        world.run(world.loop.now + 1)
    assert len(world.ended) == 120
    assert world.replicas[0].logged("project.paused") == []
