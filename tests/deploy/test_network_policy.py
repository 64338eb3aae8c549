"""The network policies' rules against pods and addresses as they are in real clusters."""

from collections.abc import Mapping

import pytest

from tests.deploy.kubernetes_manifests import COMPONENTS, Manifest, built, one, pod
from tests.deploy.network_policies import Peer, is_open

HERE = "prod-migration"
DNS = {
    "kubeadm": Peer("kube-system", {"k8s-app": "kube-dns"}),
    "CCE": Peer("kube-system", {"app": "coredns", "k8s-app": "coredns", "release": "cceaddon-coredns"}),
    "NodeLocal DNSCache": Peer(address="169.254.20.10"),
    "NodeLocal DNSCache, IPv6": Peer(address="fd00::10"),
    "DNS of the VPC": Peer(address="100.125.1.250"),
}
OPENSHIFT_DNS = Peer("openshift-dns", {"dns.operator.openshift.io/daemonset-dns": "default"})
SERVERS = {
    "broker in the cluster": (Peer("rabbitmq", {"app.kubernetes.io/name": "rabbitmq"}), 5672),
    "broker beside the worker, TLS": (Peer(HERE, {"app": "rabbit"}), 5671),
    "managed broker of the VPC": (Peer(address="192.168.0.21"), 5672),
    "broker on the internet, TLS": (Peer(address="203.0.113.9"), 5671),
    "broker, IPv6": (Peer(address="2001:db8::5"), 5671),
    "broker of a carrier's range": (Peer(address="100.64.3.4"), 5671),
    "Valkey of the component": (Peer(HERE, {"app.kubernetes.io/name": "dcs-worker-valkey"}), 6379),
    "managed Redis": (Peer(address="192.168.0.40"), 6379),
    "managed Redis, IPv6": (Peer(address="2001:db8:1::7"), 6379),
    "DCS": (Peer(address="159.138.0.10"), 443),
    "DCS at a private endpoint": (Peer(address="10.0.0.8"), 443),
    "DCS, IPv6": (Peer(address="2001:db8:2::1"), 443),
    "collector of traces": (Peer("observability", {"app": "otel-collector"}), 4318),
    "collector outside": (Peer(address="192.168.9.9"), 4318),
}
METADATA = Peer(address="169.254.169.254")
AGENT = Peer(address="169.254.1.1")
CLOSED = {
    "metadata": (METADATA, 80),
    "metadata, HTTPS": (METADATA, 443),
    "agent of pod identity": (AGENT, 80),
    "link, IPv6": (Peer(address="fe80::1"), 443),
    "mail": (Peer(address="203.0.113.9"), 25),
    "SSH of a node": (Peer(address="192.168.0.2"), 22),
    "kubelet": (Peer(address="192.168.0.2"), 10250),
    "database in the cluster": (Peer("shop", {"app": "postgres"}), 5432),
    "plain HTTP": (Peer(address="203.0.113.9"), 80),
}
SCRAPERS = {
    "kube-prometheus-stack, CCE": Peer("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "OpenShift": Peer("openshift-monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "OpenShift, user workloads": Peer("openshift-user-workload-monitoring", {"app.kubernetes.io/name": "prometheus"}),
}
STRANGER = Peer("shop", {"app.kubernetes.io/name": "web"})
PODS = ("dcs-worker", "dcs-worker-toolbox")


def policies(manifests: list[Manifest]) -> list[Manifest]:
    """The policies among manifests."""
    return [it for it in manifests if it["kind"] == "NetworkPolicy"]


def ours(manifests: list[Manifest], name: str) -> Peer:
    """A pod as its Deployment makes it."""
    template = one(manifests, "Deployment", name)["spec"]["template"]
    return Peer(one(manifests, "Deployment", name)["metadata"]["namespace"], template["metadata"]["labels"])


def ways_out(manifests: list[Manifest], name: str, peers: Mapping[str, tuple[Peer, int]]) -> set[str]:
    """The peers that a pod reaches over TCP."""
    rules, us = policies(manifests), ours(manifests, name)
    return {who for who, (peer, port) in peers.items() if is_open(rules, us, "Egress", peer, port)}


@pytest.mark.parametrize("name", PODS)
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_names_are_resolved_in_every_cluster(name: str, protocol: str) -> None:
    """Whoever answers, a pod, an address of the node's link or of the VPC; OpenShift's pods listen on 5353."""
    manifests = built(COMPONENTS)
    rules, us = policies(manifests), ours(manifests, name)
    assert [who for who, peer in DNS.items() if not is_open(rules, us, "Egress", peer, 53, protocol)] == []
    assert is_open(rules, us, "Egress", OPENSHIFT_DNS, 5353, protocol)


@pytest.mark.parametrize("name", PODS)
def test_servers_are_reached_wherever_they_run(name: str) -> None:
    """Within the cluster and outside, IPv4 and IPv6; nothing else is."""
    manifests = built(COMPONENTS)
    assert ways_out(manifests, name, SERVERS) == SERVERS.keys()
    assert ways_out(manifests, name, CLOSED) == set()


def test_base_closes_nothing() -> None:
    """Policies are a component: without it every way is open, with monitoring and keyless credentials too."""
    for choice in ((), ("autoscaling", "monitoring"), ("metadata",), ("oidc",), ("pod-identity",)):
        assert ways_out(built(choice), "dcs-worker", SERVERS | CLOSED) == SERVERS.keys() | CLOSED.keys()
        assert policies(built(choice)) == []


@pytest.mark.parametrize(
    ("keyless", "opened"),
    [
        ("metadata", {"metadata"}),
        ("pod-identity", {"agent of pod identity"}),
        ("oidc", set()),
    ],
)
@pytest.mark.parametrize("name", PODS)
@pytest.mark.parametrize("is_first", [False, True], ids=["policy first", "policy last"])
def test_keyless_components_open_their_own_way_only(keyless: str, opened: set[str], name: str, is_first: bool) -> None:
    """In whatever order the components are listed."""
    choice = ("network-policy", keyless)
    manifests = built(choice[::-1] if is_first else choice)
    assert ways_out(manifests, name, CLOSED) == opened
    assert ways_out(manifests, name, SERVERS) == SERVERS.keys()


@pytest.mark.parametrize("name", PODS)
def test_only_prometheus_gets_in(name: str) -> None:
    """From the namespaces in which it usually runs, to the port of the metrics."""
    manifests = built(COMPONENTS)
    rules, us = policies(manifests), ours(manifests, name)
    port = 8000
    assert [who for who, peer in SCRAPERS.items() if not is_open(rules, us, "Ingress", peer, port)] == []
    assert not any(is_open(rules, us, "Ingress", peer, 22) for peer in SCRAPERS.values())
    assert not is_open(rules, us, "Ingress", STRANGER, port)
    assert not is_open(rules, us, "Ingress", Peer(address="203.0.113.9"), port)


@pytest.mark.parametrize("choice", [("valkey",), COMPONENTS], ids="+".join)
def test_valkey_is_reached_by_worker_and_toolbox_alone(choice: tuple[str, ...]) -> None:
    """Of its own namespace; itself it goes nowhere."""
    manifests = built(choice)
    rules = policies(manifests)
    valkey = Peer(HERE, one(manifests, "StatefulSet", "dcs-worker-valkey")["spec"]["template"]["metadata"]["labels"])
    for name in PODS:
        assert is_open(rules, valkey, "Ingress", ours(manifests, name), 6379)
        assert not is_open(rules, valkey, "Ingress", Peer("elsewhere", {"app.kubernetes.io/name": name}), 6379)
    assert not is_open(rules, valkey, "Ingress", Peer(HERE, {"app.kubernetes.io/name": "web"}), 6379)
    assert not is_open(rules, valkey, "Egress", Peer(address="203.0.113.9"), 443)
    assert not is_open(rules, valkey, "Egress", DNS["CCE"], 53, "UDP")


def test_table_shows_rules_that_are_too_narrow() -> None:
    """The policy of 0.1.0: no names on CCE or with NodeLocal DNSCache, no broker or Redis outside, no IPv6."""
    cluster_dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    tcp = [{"protocol": "TCP", "port": port} for port in (5671, 5672)]
    policy = {
        "metadata": {"namespace": HERE},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "dcs-worker"}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [
                {"to": [cluster_dns], "ports": [{"protocol": "UDP", "port": 53}]},
                {"to": [{"namespaceSelector": {}}], "ports": tcp},
                {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"protocol": "TCP", "port": 443}]},
            ],
        },
    }
    us = Peer(HERE, {"app.kubernetes.io/name": "dcs-worker"})
    assert {who for who, peer in DNS.items() if is_open([policy], us, "Egress", peer, 53, "UDP")} == {"kubeadm"}
    assert {who for who, (peer, port) in SERVERS.items() if is_open([policy], us, "Egress", peer, port)} == {
        "broker in the cluster",
        "broker beside the worker, TLS",
        "DCS",
        "DCS at a private endpoint",
    }


def test_pods_of_the_policies_exist() -> None:
    """Every label that a policy selects is one of a pod, with the components that bring it."""
    found = [built((*COMPONENTS, keyless)) for keyless in ("metadata", "pod-identity")]
    labels = {
        pair
        for manifests in found
        for it in manifests
        if it["kind"] in ("Deployment", "StatefulSet") and pod(it)
        for pair in it["spec"]["template"]["metadata"]["labels"].items()
    }
    for policy in policies(found[0]):
        selector = policy["spec"]["podSelector"]
        told = {*selector.get("matchLabels", {}).items()}
        told |= {(it["key"], value) for it in selector.get("matchExpressions", ()) for value in it["values"]}
        assert told <= labels
