"""A day under both ways of scaling: what scaling by useful replicas saves, and what it costs."""

from math import inf

import pytest

from tests.deploy import autoscaling
from tests.deploy.autoscaling import (
    HANDS,
    WAYS,
    Autoscaler,
    Day,
    Scaler,
    lived,
    refused_in_a_minute,
    table,
)
from tests.deploy.manifests import COMPONENTS, KUBERNETES, built, one
from tests.unit import modelled
from worker.policy.replicas import Feed

OURS, PLAIN = WAYS


def days(quota: float, seed: int) -> tuple[Day, Day]:
    """The same day by useful replicas, and by the length of the queue."""
    ours, plain = (lived(way, quota, seed) for way in (OURS, PLAIN))
    assert ours.handled == pytest.approx(plain.handled)
    return ours, plain


@pytest.mark.parametrize("seed", [1, 2])
def test_under_a_quota_fewer_replicas_do_the_same(seed: int) -> None:
    """At least a third fewer calls are refused, for a sixth fewer hours; the queues drain as fast, but for 90 s."""
    ours, plain = days(100.0, seed)
    assert ours.refused < plain.refused * 0.67
    assert ours.replica_hours < plain.replica_hours * 0.85
    assert ours.most < plain.most
    for what, waited in plain.drained.items():
        assert ours.drained[what] <= waited + 90.0


@pytest.mark.parametrize("seed", [1, 2])
def test_where_no_quota_holds_back_all_are_used(seed: int) -> None:
    """After an outage as many as there may be, within the minutes that doubling takes; no more hours than else."""
    ours, plain = days(1000.0, seed)
    assert ours.most == plain.most == Scaler().most
    assert ours.replica_hours <= plain.replica_hours
    assert ours.refused < plain.refused
    assert ours.drained["outage"] <= plain.drained["outage"] + 240.0
    assert ours.drained["burst"] <= 60.0


def test_the_documented_table_is_this_one() -> None:
    """The figures in the documentation are those of this simulation."""
    assert table() in (KUBERNETES / "README.md").read_text()


def test_the_model_has_the_numbers_of_the_manifest() -> None:
    """Bounds, windows, threshold and hands are what is deployed."""
    manifests = built(COMPONENTS)
    scaling, told = one(manifests, "ScaledObject")["spec"], one(manifests, "ConfigMap")["data"]
    behavior = scaling["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert Scaler() == Scaler(
        least=scaling["minReplicaCount"],
        most=scaling["maxReplicaCount"],
        up_after=behavior["scaleUp"]["stabilizationWindowSeconds"],
        down_after=behavior["scaleDown"]["stabilizationWindowSeconds"],
        period=behavior["scaleDown"]["policies"][0]["periodSeconds"],
        poll=scaling["pollingInterval"],
    )
    assert WAYS[OURS][1] == float(scaling["triggers"][0]["metadata"]["threshold"])
    assert int(told["WORKER_PREFETCH"]) == HANDS


@pytest.mark.parametrize("count", [4, 10])
def test_what_is_refused_is_what_was_measured(count: int) -> None:
    """The worker's own pace and limit under a quota of a hundred, saturated, in virtual time."""
    world = modelled.World(modelled.Service(100, latency=0.5), count).run(80)
    measured = len(world.between(20, 80, "429"))
    assert measured == pytest.approx(refused_in_a_minute(count), rel=0.3)
    assert world.used(20, 80, 100) == pytest.approx(autoscaling.USED, abs=0.02)
    borne = [Feed(1, borne=replica.pace.borne(world.now), quota=100.0).calls(count) for replica in world.replicas]
    assert sum(borne) / count == pytest.approx(100.0, rel=0.2)  # each takes itself for all, and the average is right


def decided(metrics: list[float], target: float = 1.0, wanted: int = 2) -> list[int]:
    """What the autoscaler decides every fifteen seconds."""
    autoscaler = Autoscaler(Scaler(), target, wanted)
    return [autoscaler.decide(number * 15.0, metric) for number, metric in enumerate(metrics)]


def test_the_autoscaler_is_modelled_as_it_is() -> None:
    """Up after 30 s by doubling in a minute; not for a tenth; down one a minute after five minutes; within bounds."""
    up = decided([inf if number > 100 else 50.0 for number in range(12)])
    assert up[0] == 4
    assert max(up) == 10
    assert all(later <= 2 * up[max(0, at - 4)] for at, later in enumerate(up[1:], 1) if at >= 4)
    assert decided([2.1] * 10) == [2] * 10
    down = decided([5.0, *[0.0] * 50], wanted=5)
    assert down[:20] == [5] * 20
    assert [down[at] for at in (21, 25, 29, 33)] == [4, 3, 2, 2]
    assert sorted(down, reverse=True) == down
