"""The Kubernetes manifests: every combination is built, and every object is what its schema says, and no more."""

import json
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.deploy.kubernetes_manifests import (
    CHOICES,
    COMPONENTS,
    DATA,
    KEYLESS,
    KUBERNETES,
    Manifest,
    built,
    container,
    faults,
    kustomize,
    one,
    pod,
)
from worker.config.settings import Settings, variable

EVERYTHING = CHOICES[-1]
KINDS = {
    "base": {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"},
    "autoscaling": {"ScaledObject"},
    "monitoring": {"PodMonitor", "PrometheusRule"},
    "redis": {"ConfigMap", "NetworkPolicy", "Service", "StatefulSet"},
}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "+".join(choice) or "base")
def test_every_combination_is_built_and_valid(choice: tuple[str, ...]) -> None:
    """Kinds are those of the parts that were chosen; each object fits its schema with nothing unknown in it."""
    manifests = built(choice)
    assert {it["kind"] for it in manifests} == set.union(*(KINDS.get(part, set()) for part in ("base", *choice)))
    assert {it["metadata"]["name"]: found for it in manifests if (found := faults(it))} == {}


def test_the_example_is_all_of_it_in_one_namespace() -> None:
    """With a namespace that it makes itself; the query of the scaler asks about that one."""
    manifests = kustomize(KUBERNETES / "example")
    assert [fault for it in manifests for fault in faults(it)] == []
    assert {it["metadata"].get("namespace") for it in manifests if it["kind"] != "Namespace"} == {"dcs-migration"}
    query = one(manifests, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    assert query == 'sum(rate(dcs_worker_dcs_call_duration_seconds_sum{namespace="dcs-migration"}[1m]))'
    assert container(one(manifests, "Deployment"))["image"] == "registry.example.com/dcs-migration-worker:0.1.0"
    assert one(manifests, "ConfigMap")["data"]["WORKER_DRAIN"]  # merged, not replaced


def test_the_query_follows_the_namespace(tmp_path: Any) -> None:
    """A copy of the example for another namespace scales by its own replicas."""
    text = (KUBERNETES / "example" / "kustomization.yaml").read_text()
    away = KUBERNETES.relative_to(KUBERNETES.anchor)
    up = "/".join([".."] * len(tmp_path.resolve().parts[1:]))
    overlay = yaml.safe_load(text.replace("../", f"{up}/{away}/"))
    overlay |= {"namespace": "elsewhere", "resources": [f"{up}/{away}/base"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    query = one(kustomize(tmp_path), "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    assert 'namespace="elsewhere"' in query


def changed(manifest: Manifest, path: str, value: object) -> Manifest:
    """A copy with one value changed, or added."""
    copy = deepcopy(manifest)
    *way, last = path.split(".")
    place: Any = copy
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    return copy


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.replicas", "two"),
        ("Deployment", "spec.template.spec.containers.0.resources.limitz", {}),
        ("Deployment", "spec.template.spec.terminationGraceSeconds", 60),
        ("NetworkPolicy", "spec.egres", []),
        ("PodDisruptionBudget", "spec.maxUnavailble", 1),
        ("ScaledObject", "spec.maxReplicaCnt", 10),
        ("ScaledObject", "spec.fallback.behavior", "freeze"),
        ("ScaledObject", "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.window", 300),
        ("ScaledObject", "spec.triggers.0.metadata.threshold", 0.8),
        ("PodMonitor", "spec.podMetricsEndpoints.0.intervall", "15s"),
        ("PodMonitor", "spec.podMetricsEndpoints.0.interval", "often"),
        ("PrometheusRule", "spec.group", []),
    ],
)
def test_the_checks_reject_broken_manifests(kind: str, path: str, value: object) -> None:
    """A wrong type, a misspelt field or a value that is not allowed is found where it stands."""
    manifest = one(built(EVERYTHING), kind)
    assert faults(manifest) == []
    assert faults(changed(manifest, path, value))


def test_the_scaler_knows_its_metadata() -> None:
    """KEDA ignores metadata that it does not know: each key is one of its Prometheus scaler's, none is missing."""
    (trigger,) = one(built(("autoscaling",)), "ScaledObject")["spec"]["triggers"]
    parameters = json.loads((DATA / "keda-prometheus-scaler.json").read_text())
    known = {it["name"] for it in parameters}
    mandatory = {it["name"] for it in parameters if not it.get("optional")}
    assert trigger["type"] == "prometheus"
    assert mandatory <= trigger["metadata"].keys() <= known


def test_the_scaler_owns_the_number_of_replicas() -> None:
    """An apply must not reset it; without the scaler the Deployment says it."""
    assert "replicas" not in one(built(("autoscaling",)), "Deployment")["spec"]
    assert one(built(()), "Deployment")["spec"]["replicas"] >= 2


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_pods_may_do_nothing_that_they_need_not(kind: str) -> None:
    """What the restricted profile asks for, and more: a read-only root, no token, no environment of other services."""
    workload = one(built(EVERYTHING), kind, "dcs-worker-redis" if kind == "StatefulSet" else "dcs-worker")
    spec, security = pod(workload), container(workload)["securityContext"]
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert min(spec["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")) > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_everything_selects_the_pods() -> None:
    """Deployment, budget, policy, spread, monitor and scaler are about the same pods."""
    manifests = built(EVERYTHING)
    deployment = one(manifests, "Deployment")
    labels = {"app.kubernetes.io/name": "dcs-worker"}
    assert labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"],
        one(manifests, "PodMonitor")["spec"]["selector"],
        *(it["labelSelector"] for it in pod(deployment)["topologySpreadConstraints"]),
    ]
    assert all(it == {"matchLabels": labels} for it in selectors)
    assert one(manifests, "ScaledObject")["spec"]["scaleTargetRef"] == {"name": deployment["metadata"]["name"]}
    (endpoint,) = one(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container(deployment)["ports"]}


def test_replicas_spread_over_zones() -> None:
    """And over nodes; but where there is only one zone they run all the same."""
    spread = pod(one(built(()), "Deployment"))["topologySpreadConstraints"]
    assert [it["topologyKey"] for it in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {(it["maxSkew"], it["whenUnsatisfiable"]) for it in spread} == {(1, "ScheduleAnyway")}


def ways(rules: list[Manifest]) -> set[int]:
    """The ports of a policy's rules."""
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_only_the_needed_ways_are_open() -> None:
    """Out: names, AMQP with and without TLS, HTTPS; Redis only with its component. In: scrapes only with theirs."""
    alone = one(built(()), "NetworkPolicy")["spec"]
    everything = one(built(EVERYTHING), "NetworkPolicy")["spec"]
    assert alone["policyTypes"] == everything["policyTypes"] == ["Ingress", "Egress"]
    assert ways(alone["egress"]) == {53, 5671, 5672, 443}
    assert "ingress" not in alone
    assert ways(everything["egress"]) == {53, 5671, 5672, 443, 6379}
    assert ways(everything["ingress"]) == {Settings().http_port}
    assert all(rule.get("to") for rule in everything["egress"])
    redis = one(built(EVERYTHING), "NetworkPolicy", "dcs-worker-redis")["spec"]
    assert (ways(redis["ingress"]), redis.get("egress")) == ({6379}, None)


def test_secrets_are_files_where_the_worker_looks_for_them() -> None:
    """None is in the environment; they are read-only, and readable to the worker's group."""
    deployment = one(built(EVERYTHING), "Deployment")
    (mount,) = container(deployment)["volumeMounts"]
    (volume,) = pod(deployment)["volumes"]
    assert mount == {"name": volume["name"], "mountPath": str(Settings().secrets_dir), "readOnly": True}
    assert [it["secret"]["name"] for it in volume["projected"]["sources"]] == ["dcs-worker", "dcs-worker-redis"]
    assert volume["projected"]["defaultMode"] == 0o440
    assert "env" not in container(deployment)
    told = one(built(EVERYTHING), "ConfigMap")["data"]
    fields = {variable(field): field for field in Settings.model_fields}
    assert told.keys() <= fields.keys()
    assert not any(word in name for name in told for word in ("TOKEN", "KEY", "PASSWORD", "URL"))


@pytest.mark.parametrize("keyless", KEYLESS)
def test_keyless_components_open_only_their_own_way(keyless: str) -> None:
    """The metadata and the agent are on the link; OIDC needs HTTPS alone, and a token of the ServiceAccount."""
    manifests = built((keyless,))
    assert one(manifests, "ConfigMap")["data"]["WORKER_CREDENTIALS"] == "platform"
    before = one(built(()), "NetworkPolicy")["spec"]["egress"]
    added = [rule for rule in one(manifests, "NetworkPolicy")["spec"]["egress"] if rule not in before]
    opened = {"metadata": ["169.254.169.254/32"], "pod-identity": ["169.254.0.0/16"], "oidc": []}
    assert [to["ipBlock"]["cidr"] for rule in added for to in rule["to"]] == opened[keyless]
    deployment = one(manifests, "Deployment")
    tokens = [
        source["serviceAccountToken"]["path"]
        for volume in pod(deployment)["volumes"]
        for source in volume["projected"]["sources"]
        if "serviceAccountToken" in source
    ]
    assert tokens == (["token"] if keyless == "oidc" else [])
    assert {it["name"] for it in container(deployment)["volumeMounts"]} == {
        it["name"] for it in pod(deployment)["volumes"]
    }
    assert pod(deployment)["automountServiceAccountToken"] is False


def test_every_part_is_built_by_some_combination() -> None:
    """No file is left out: what lies in the folders is what kustomizations name."""
    for folder in (KUBERNETES / "base", *(KUBERNETES / "components" / name for name in (*COMPONENTS, *KEYLESS))):
        told = yaml.safe_load((folder / "kustomization.yaml").read_text())
        generated = [
            name for it in told.get("configMapGenerator", []) for name in (*it.get("files", []), *it.get("envs", []))
        ]
        named = {"kustomization.yaml", *told.get("resources", []), *generated}
        assert {path.name for path in folder.iterdir() if path.suffix != ".example"} == named
