"""The numbers of the manifests against each other, and against what the worker does with them."""

import json
import re
from math import ceil
from pathlib import Path

import pytest

from tests.deploy.kubernetes_manifests import COMPONENTS, KUBERNETES, Manifest, built, container, one, pod
from tests.deploy.test_rules import needs_promtool, promtool
from worker.bootstrap.run import FLUSH_SECONDS
from worker.config import Configuration, Settings
from worker.config.load import load
from worker.policy.diagnostics import DEFAULT_CONSUMER_TIMEOUT_SECONDS
from worker.policy.freeze_detector import FROZEN_AFTER
from worker.policy.retry_policy import ThrottleSettings

CLOSING = 10.0
"""Seconds from the end of the drain to the end of the process, at most: what the README asks for."""
UNITS = {"Mi": 2**20, "Gi": 2**30, "mb": 2**20}
"""What redis.conf calls mb is what Kubernetes calls Mi."""


def bytes_of(text: str) -> int:
    """A quantity of memory."""
    found = re.fullmatch(r"(\d+)(Mi|Gi|mb)", text)
    assert found
    return int(found[1]) * UNITS[found[2]]


@pytest.fixture(scope="module")
def deployment() -> Manifest:
    """The Deployment."""
    return one(built(COMPONENTS), "Deployment")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """What the worker reads from the ConfigMap; anything that it does not accept raises."""
    told = one(built(COMPONENTS), "ConfigMap")["data"]
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "worker_auth_token").write_text("t")
    loaded: Configuration = load(told | {"WORKER_SECRETS_DIR": str(folder)}, folder=folder)
    assert not loaded.warnings
    return loaded.settings


@pytest.fixture(scope="module")
def scaling() -> Manifest:
    """The specification of the scaler."""
    found: Manifest = one(built(COMPONENTS), "ScaledObject")["spec"]
    return found


def test_grace_is_longer_than_the_drain_and_that_than_a_call(deployment: Manifest, settings: Settings) -> None:
    """A call that has just begun ends and is settled within the drain; the process ends before it is killed."""
    grace = pod(deployment)["terminationGracePeriodSeconds"]
    assert settings.dcs_timeout + 5.0 <= settings.drain
    assert settings.drain + max(CLOSING, FLUSH_SECONDS) <= grace


def test_nothing_is_created_again_too_soon(settings: Settings) -> None:
    """The time to settle covers a call, and the schedule has a place for it."""
    assert settings.settle > settings.dcs_timeout
    assert max(settings.retry_delays) >= settings.settle


def test_a_worker_that_starts_or_is_slow_is_not_restarted(deployment: Manifest) -> None:
    """Half a minute to start at least; a freeze that the worker itself notices is survived."""
    probes = container(deployment)
    startup, liveness = probes["startupProbe"], probes["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 30
    assert liveness["timeoutSeconds"] >= FROZEN_AFTER
    assert liveness["timeoutSeconds"] <= liveness["periodSeconds"]
    assert liveness["periodSeconds"] * (liveness["failureThreshold"] - 1) > 2 * FROZEN_AFTER
    assert {probe["httpGet"]["path"] for probe in (startup, liveness)} == {"/livez"}
    assert probes["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_rollout_goes_on_only_with_replicas_that_stay_ready(deployment: Manifest, settings: Settings) -> None:
    """Ready means ready in two probes at least; an outage of the broker that the worker sits out fails no rollout."""
    readiness = container(deployment)["readinessProbe"]
    spec = deployment["spec"]
    assert spec["minReadySeconds"] >= 2 * readiness["periodSeconds"]
    assert spec["progressDeadlineSeconds"] > settings.broker_timeout + spec["minReadySeconds"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_there_is_always_a_replica_that_may_go(scaling: Manifest) -> None:
    """The budget leaves one to be evicted, and at least one that stays, with the scaler and without it."""
    budget = one(built(()), "PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert 1 <= budget < one(built(()), "Deployment")["spec"]["replicas"]
    assert budget < scaling["minReplicaCount"] <= scaling["maxReplicaCount"]
    assert scaling["fallback"]["replicas"] >= scaling["minReplicaCount"]


def test_the_port_is_the_one_that_the_worker_listens_on(deployment: Manifest, settings: Settings) -> None:
    """For probes, scrapes and the policy that lets them in."""
    (port,) = container(deployment)["ports"]
    assert port["containerPort"] == settings.http_port
    (rule,) = one(built(COMPONENTS), "NetworkPolicy")["spec"]["ingress"]
    assert [it["port"] for it in rule["ports"]] == [settings.http_port]


def test_what_all_replicas_hold_is_done_before_the_broker_takes_it_back(scaling: Manifest, settings: Settings) -> None:
    """Even at one call a second: each is acknowledged within half of the time that the broker allows by default."""
    assert scaling["maxReplicaCount"] * settings.prefetch * 1.0 <= DEFAULT_CONSUMER_TIMEOUT_SECONDS / 2
    assert ThrottleSettings(("r",), settings.prefetch, settings.dcs_timeout, settings.retry_delays).rate is None


def test_the_scaler_doubles_at_most_and_shrinks_slower(scaling: Manifest) -> None:
    """Up by as many as there are in a minute; down only after it was lower for longer than a drain."""
    behavior = scaling["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (up,), (down,) = behavior["scaleUp"]["policies"], behavior["scaleDown"]["policies"]
    assert (up["type"], up["value"]) == ("Percent", 100)
    assert (down["type"], down["value"]) == ("Pods", 1)
    grace = pod(one(built(()), "Deployment"))["terminationGracePeriodSeconds"]
    assert down["periodSeconds"] >= grace
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 5 * grace
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] >= scaling["pollingInterval"]


def test_replicas_that_are_full_make_room_for_another(scaling: Manifest, settings: Settings) -> None:
    """The threshold is a share of the calls that a replica can have under way; two full ones are a third."""
    (trigger,) = scaling["triggers"]
    threshold = float(trigger["metadata"]["threshold"])
    assert 0.5 <= threshold / settings.prefetch < 1.0
    assert ceil(2 * settings.prefetch / threshold) == 3


@needs_promtool
def test_the_query_counts_the_calls_under_way_in_its_namespace(scaling: Manifest, tmp_path: Path) -> None:
    """Seconds of calls per second, of all pods and operations; a pod that restarts in between does not disturb it."""
    (trigger,) = scaling["triggers"]
    series = {
        'namespace="dcs-migration", pod="a", operation="create"': "0+300x20",
        'namespace="dcs-migration", pod="a", operation="list"': "0+75x20",
        'namespace="dcs-migration", pod="b", operation="create"': "0+150x9 0+150x10",
        'namespace="another", pod="c", operation="create"': "0+900x20",
    }
    sums = [
        {"series": f"dcs_worker_dcs_call_duration_seconds_sum{{{labels}}}", "values": values}
        for labels, values in series.items()
    ]
    expected = {"expr": trigger["metadata"]["query"], "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": 35}]}
    case = {"interval": "15s", "input_series": sums, "promql_expr_test": [expected]}
    (tmp_path / "query.yml").write_text(json.dumps({"tests": [case]}))  # JSON is YAML
    done = promtool("test", "rules", tmp_path / "query.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_scrape_ends_before_the_next_and_the_window_holds_some(scaling: Manifest) -> None:
    """The average that scales is over more than one scrape."""
    (endpoint,) = one(built(COMPONENTS), "PodMonitor")["spec"]["podMetricsEndpoints"]
    interval, timeout = (int(endpoint[name].removesuffix("s")) for name in ("interval", "scrapeTimeout"))
    assert timeout < interval
    assert interval * 3 <= 60
    assert "[1m]" in scaling["triggers"][0]["metadata"]["query"]


def test_redis_refuses_before_it_is_killed() -> None:
    """Half of its memory is left for connections and for rewriting its file; nothing is evicted, all survives."""
    conf = (KUBERNETES / "components" / "redis" / "redis.conf").read_text().splitlines()
    told = dict(line.split(" ", 1) for line in conf if line and not line.startswith("#"))
    limits = container(one(built(COMPONENTS), "StatefulSet", "dcs-worker-redis"))["resources"]["limits"]
    assert bytes_of(told["maxmemory"]) * 1.5 <= bytes_of(limits["memory"])
    assert (told["maxmemory-policy"], told["appendonly"]) == ("noeviction", "yes")
