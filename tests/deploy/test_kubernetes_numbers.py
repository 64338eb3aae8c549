"""The numbers of the manifests against each other, and against what the worker does with them."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from threading import Thread

import pytest
import yaml

from tests.deploy.kubernetes_manifests import COMPONENTS, KUBERNETES, Manifest, built, container, one, pod
from tests.deploy.test_rules import needs_promtool, promtool
from tools.bench.sizing import read
from tools.harness.prometheus import Prometheus
from tools.harness.running_system import until
from worker.bootstrap.run import FLUSH_SECONDS
from worker.claims.redis_claims import KEEP_MILLISECONDS
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
    """Ready means ready in two probes at least; ten minutes without a broker are no failure of a rollout."""
    readiness = container(deployment)["readinessProbe"]
    spec = deployment["spec"]
    assert spec["minReadySeconds"] >= 2 * readiness["periodSeconds"]
    assert settings.broker_timeout > spec["progressDeadlineSeconds"] >= 600
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_there_is_always_a_replica_that_may_go(scaling: Manifest) -> None:
    """The budget leaves one to be evicted, and at least one that stays, with the scaler and without it."""
    budget = one(built(()), "PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert 1 <= budget < one(built(()), "Deployment")["spec"]["replicas"]
    assert budget < scaling["minReplicaCount"] <= scaling["maxReplicaCount"]
    assert "fallback" not in scaling  # older KEDA would scale to a number during an outage of Prometheus


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
        'namespace="prod-migration", pod="a", operation="create"': "0+300x20",
        'namespace="prod-migration", pod="a", operation="list"': "0+75x20",
        'namespace="prod-migration", pod="b", operation="create"': "0+150x9 0+150x10",
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
    conf = (KUBERNETES / "components" / "valkey" / "valkey.conf").read_text().splitlines()
    told = dict(line.split(" ", 1) for line in conf if line and not line.startswith("#"))
    limits = container(one(built(COMPONENTS), "StatefulSet", "dcs-worker-valkey"))["resources"]["limits"]
    assert bytes_of(told["maxmemory"]) * 1.5 <= bytes_of(limits["memory"])
    assert (told["maxmemory-policy"], told["appendonly"], told["save"]) == ("noeviction", "yes", '""')


def test_valkey_remembers_as_many_requests_a_day_as_the_documents_say() -> None:
    """For seven days, with a tenth left over, at what an outcome was measured to take."""
    conf, readme = KUBERNETES / "components" / "valkey" / "valkey.conf", KUBERNETES / "README.md"
    (limit,) = re.findall(r"^maxmemory (.+)$", conf.read_text(), re.MULTILINE)
    days = KEEP_MILLISECONDS / 86_400_000
    for text in (conf.read_text(), " ".join(readme.read_text().split())):
        (told,) = re.findall(r"([\d,]+) requests a day\.", text)
        assert int(told.replace(",", "")) * days * read().outcome_bytes <= 0.9 * bytes_of(limit)


@contextmanager
def worker_with_calls(under_way: float) -> Iterator[str]:
    """The address of metrics of a worker that has so many calls under way."""
    began = time.monotonic()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seconds = under_way * (time.monotonic() - began)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(f'dcs_worker_dcs_call_duration_seconds_sum{{operation="create"}} {seconds}\n'.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@needs_promtool
async def test_prometheus_answers_the_query_of_each_namespace() -> None:
    """As KEDA asks: one value, for the calls of its own pods; none without the lines of the README."""
    scaled = yaml.safe_load((KUBERNETES / "components" / "autoscaling" / "scaledobject.yaml").read_text())
    ours, theirs = (one(built(("autoscaling",), name), "ScaledObject") for name in ("prod-migration", "elsewhere"))
    with (
        worker_with_calls(20.0) as few,
        worker_with_calls(80.0) as many,
        Prometheus({"prod-migration/dcs-worker": [few], "elsewhere/dcs-worker": [many]}) as prometheus,
    ):

        def asked(document: Manifest) -> list[float]:
            query = document["spec"]["triggers"][0]["metadata"]["query"]
            return [float(it["value"][1]) for it in prometheus.ask("query", query=query)["data"]["result"]]

        await until(lambda: asked(ours) > [0.0] and asked(theirs) > [0.0], 30)
        assert asked(theirs)[0] > 2.0 * asked(ours)[0]
        assert asked(scaled) == []
