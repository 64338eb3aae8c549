"""The Kubernetes manifests: every combination is built, and every object is what its schema says, and no more."""

import json
import re
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
    TOOLBOX_SECRET,
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
    "base": {"ConfigMap", "Deployment", "PodDisruptionBudget", "ServiceAccount"},
    "autoscaling": {"ScaledObject"},
    "monitoring": {"PodMonitor", "PrometheusRule"},
    "network-policy": {"NetworkPolicy"},
    "valkey": {"ConfigMap", "NetworkPolicy", "Service", "StatefulSet"},
}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "+".join(choice) or "base")
def test_every_combination_is_built_and_valid(choice: tuple[str, ...]) -> None:
    """Kinds are those of the parts that were chosen; each object fits its schema with nothing unknown in it."""
    manifests = built(choice)
    assert {it["metadata"]["namespace"] for it in manifests} == {"prod-migration"}
    assert {it["kind"] for it in manifests} == set.union(*(KINDS.get(part, set()) for part in ("base", *choice)))
    assert {it["metadata"]["name"]: found for it in manifests if (found := faults(it))} == {}


def test_the_example_is_a_whole_deployment_in_one_namespace() -> None:
    """With a namespace that it makes itself; every image is of one registry and by digest, with the login of CCE."""
    manifests = kustomize(KUBERNETES / "example")
    assert [fault for it in manifests for fault in faults(it)] == []
    assert {it["kind"] for it in manifests} - {"Namespace"} == set.union(
        *(KINDS[part] for part in ("base", "monitoring", "network-policy", "valkey"))
    )
    assert {it["metadata"].get("namespace") for it in manifests if it["kind"] != "Namespace"} == {"dcs-migration"}
    workloads = [it for it in manifests if it["kind"] in ("Deployment", "StatefulSet")]
    images = [container(it)["image"] for it in workloads]
    assert [it for it in images if not re.fullmatch(r"registry\.example\.com/\S+@sha256:[0-9a-f]{64}", it)] == []
    assert all(pod(it)["imagePullSecrets"] == [{"name": "default-secret"}] for it in workloads)
    assert one(manifests, "ConfigMap")["data"]["WORKER_DRAIN"]  # merged, not replaced


def test_images_of_others_are_pinned() -> None:
    """By name of their registry and by digest."""
    image = container(one(built(EVERYTHING), "StatefulSet", "dcs-worker-valkey"))["image"]
    assert re.fullmatch(r"docker\.io/valkey/valkey:[\w.-]+@sha256:[0-9a-f]{64}", image)


@pytest.mark.parametrize("namespace", ["prod-migration", "elsewhere"])
def test_the_query_follows_the_namespace(namespace: str) -> None:
    """An overlay with the lines of the README scales by the calls of its own replicas."""
    query = one(built(("autoscaling",), namespace), "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    assert query == f'sum(rate(dcs_worker_dcs_call_duration_seconds_sum{{namespace="{namespace}"}}[1m]))'


def test_prometheus_of_the_stack_finds_monitor_and_rules() -> None:
    """kube-prometheus-stack selects both by the label of its release."""
    for kind in ("PodMonitor", "PrometheusRule"):
        assert one(built(("monitoring",)), kind)["metadata"]["labels"]["release"] == "kube-prometheus-stack"


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
        ("ScaledObject", "spec.fallback", {"replicas": "two"}),
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


@pytest.mark.parametrize("name", ["dcs-worker", "dcs-worker-toolbox", "dcs-worker-valkey"])
def test_pods_may_do_nothing_that_they_need_not(name: str) -> None:
    """What the restricted profile asks for, and more: a read-only root, no token, no environment of other services."""
    workload = one(built(EVERYTHING), "StatefulSet" if name.endswith("valkey") else "Deployment", name)
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


def test_toolbox_has_secrets_of_its_own_by_the_lines_of_the_readme() -> None:
    """Those of the worker, and the claims' for both, stay as they are."""
    manifests = built(EVERYTHING, more=TOOLBOX_SECRET)
    for name in ("dcs-worker", "dcs-worker-toolbox"):
        (volume,) = pod(one(manifests, "Deployment", name))["volumes"]
        assert [it["secret"]["name"] for it in volume["projected"]["sources"]] == [name, "dcs-worker-valkey"]


def test_secrets_are_files_where_the_worker_looks_for_them() -> None:
    """None is in the environment; they are read-only, and readable to the worker's group."""
    told = one(built(EVERYTHING), "ConfigMap")["data"]
    deployment = one(built(EVERYTHING), "Deployment")
    (mount,) = container(deployment)["volumeMounts"]
    (volume,) = pod(deployment)["volumes"]
    assert mount == {"name": volume["name"], "mountPath": told["WORKER_SECRETS_DIR"], "readOnly": True}
    assert not mount["mountPath"].startswith(("/run", "/var/run"))  # where tokens are mounted
    assert [it["secret"]["name"] for it in volume["projected"]["sources"]] == ["dcs-worker", "dcs-worker-valkey"]
    assert volume["projected"]["defaultMode"] == 0o440
    assert "env" not in container(deployment)
    fields = {variable(field): field for field in Settings.model_fields}
    assert told.keys() <= fields.keys()
    assert not any(word in name for name in told for word in ("TOKEN", "KEY", "PASSWORD", "URL"))


@pytest.mark.parametrize("keyless", KEYLESS)
@pytest.mark.parametrize("name", ["dcs-worker", "dcs-worker-toolbox"])
def test_keyless_components_give_keys_and_no_more(keyless: str, name: str) -> None:
    """The platform's, in the toolbox too; OIDC needs a token of the ServiceAccount, which is a volume of its own."""
    manifests = built((keyless,))
    assert one(manifests, "ConfigMap")["data"]["WORKER_CREDENTIALS"] == "platform"
    deployment = one(manifests, "Deployment", name)
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


@pytest.mark.parametrize("choice", [(*COMPONENTS, keyless) for keyless in KEYLESS], ids="+".join)
def test_toolbox_is_a_worker_with_more_memory_that_consumes_nothing(choice: tuple[str, ...]) -> None:
    """Image, settings, secrets, identity and labels for policies are the worker's; no selector of its counts it."""
    manifests = built(choice)
    worker, toolbox = one(manifests, "Deployment"), one(manifests, "Deployment", "dcs-worker-toolbox")
    alike = ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "securityContext", "volumes")
    assert {part: pod(toolbox)[part] for part in alike} == {part: pod(worker)[part] for part in alike}
    same = ("image", "envFrom", "securityContext", "volumeMounts")
    assert {part: container(toolbox)[part] for part in same} == {part: container(worker)[part] for part in same}
    assert "args" not in container(toolbox)
    assert container(toolbox)["command"][0] == "python"
    labels = [it["spec"]["template"]["metadata"]["labels"] for it in (worker, toolbox)]
    assert [it.pop("app.kubernetes.io/name") for it in map(dict, labels)] == ["dcs-worker", "dcs-worker-toolbox"]
    assert labels[0].get("dcs-worker/credentials") == labels[1].get("dcs-worker/credentials")


def test_every_part_is_built_by_some_combination() -> None:
    """No file is left out: what lies in the folders is what kustomizations name."""
    for folder in (KUBERNETES / "base", *(KUBERNETES / "components" / name for name in (*COMPONENTS, *KEYLESS))):
        told = yaml.safe_load((folder / "kustomization.yaml").read_text())
        generated = [
            name for it in told.get("configMapGenerator", []) for name in (*it.get("files", []), *it.get("envs", []))
        ]
        named = {"kustomization.yaml", *told.get("resources", []), *generated}
        assert {path.name for path in folder.iterdir() if path.suffix != ".example"} == named
