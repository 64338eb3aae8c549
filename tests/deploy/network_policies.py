"""What NetworkPolicies let through, as Kubernetes defines it: policies add up, and who is selected by none is open."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.deploy.kubernetes_manifests import Manifest

NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """The other end: a pod, by its namespace and labels, or an address outside of the cluster's pods.

    A pod is known by its labels alone: some network plug-ins hold no pod against a range of addresses.
    """

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def is_open(policies: list[Manifest], pod: Peer, direction: str, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether `pod` may connect to `peer` ("Egress"), or `peer` to `pod` ("Ingress"), at `port`."""
    rules, is_isolated = [], False
    for policy in policies:
        spec = policy["spec"]
        if policy["metadata"]["namespace"] != pod.namespace or not _matches(spec["podSelector"], pod.labels):
            continue
        if direction in spec["policyTypes"]:
            is_isolated = True
            rules += spec.get(direction.lower(), [])
    end = "to" if direction == "Egress" else "from"
    return not is_isolated or any(
        (end not in rule or any(_is_peer(it, peer, pod.namespace) for it in rule[end]))
        and ("ports" not in rule or any(_is_port(it, port, protocol) for it in rule["ports"]))
        for rule in rules
    )


def _is_port(told: Mapping[str, Any], port: int, protocol: str) -> bool:
    return bool(told["protocol"] == protocol and told["port"] <= port <= told.get("endPort", told["port"]))


def _is_peer(told: Mapping[str, Any], peer: Peer, own_namespace: str) -> bool:
    if block := told.get("ipBlock"):
        return (
            bool(peer.address)
            and _is_in(peer.address, block["cidr"])
            and not any(_is_in(peer.address, cidr) for cidr in block.get("except", ()))
        )
    if peer.address:
        return False
    selector = told.get("namespaceSelector")
    is_there = peer.namespace == own_namespace if selector is None else _matches(selector, {NAME: peer.namespace})
    return is_there and _matches(told.get("podSelector", {}), peer.labels)


def _is_in(address: str, cidr: str) -> bool:
    return ip_address(address) in ip_network(cidr)


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels fit a selector; an empty one selects everything."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    assert all(it["operator"] == "In" for it in selector.get("matchExpressions", ()))
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(it["key"]) in it["values"] for it in selector.get("matchExpressions", ())
    )
