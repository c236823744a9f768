"""NetworkPolicies: nothing comes in or goes out but the flows, and questions for names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foundation.addresses import split_address
from inference_graph.control.manifests.flows import EVERYBODY, Flow, concerned, parties
from inference_graph.control.manifests.gateway import GATEWAY
from inference_graph.control.manifests.parts import Document, ManifestOptions

_NAMESPACE = "kubernetes.io/metadata.name"
_DNS = 53
PUBLIC = ("0.0.0.0/0",)
METADATA = ("169.254.169.252/32", "169.254.169.254/32")
"""Where Google's nodes tell a pod who it is."""
NODE_DNS = ("169.254.20.10/32", "169.254.169.254/32")
"""Where a node's own cache of names listens, and where Google's Cloud DNS does."""


def closed() -> list[Document]:
    """Refuse everything in both directions, and let every pod ask for names."""
    asked: list[Document] = [
        {"namespaceSelector": {"matchLabels": {_NAMESPACE: "kube-system"}}},
        *({"ipBlock": {"cidr": address}} for address in NODE_DNS),
    ]
    ports = [{"protocol": protocol, "port": _DNS} for protocol in ("UDP", "TCP")]
    return [
        policy("default-deny", {}, ingress=[], egress=[]),
        policy("names", {}, egress=[{"to": asked, "ports": ports}]),
    ]


def flow_policies(
    flows: Sequence[Flow], prefix: str = "", ports: tuple[int, ...] = ()
) -> list[Document]:
    """A NetworkPolicy for every party, with what may reach it and what it may reach.

    Policies add up, so each component brings those of its own flows.

    Args:
        flows: what is allowed.
        prefix: before each policy's name.
        ports: in place of each flow's own; a mesh carries them all through one.
    """
    found = []
    known = parties()
    for name in concerned(flows):
        coming = [
            {"from": [_peer(flow.source)], "ports": _ports(ports or flow.ports)}
            if flow.source != EVERYBODY
            else {"ports": _ports(ports or flow.ports)}
            for flow in flows
            if flow.target == name
        ]
        going = [
            {"to": [_peer(flow.target)], "ports": _ports(ports or flow.ports)}
            for flow in flows
            if flow.source == name
        ]
        directions: dict[str, Any] = {}
        if coming:
            directions["ingress"] = coming
        if going:
            directions["egress"] = going
        found.append(policy(f"{prefix}{name}", known[name].labels, **directions))
    return found


def outward(name: str, party: str, ports: Sequence[int], cidrs: Sequence[str]) -> Document:
    """Let a party reach addresses outside of the cluster."""
    to = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
    return policy(name, parties()[party].labels, egress=[{"to": to, "ports": _ports(ports)}])


def issuer_policies(options: ManifestOptions) -> list[Document]:
    """Let the gateway ask its issuer for keys, wherever outside of the cluster that is."""
    urls = [url for url in (options.oidc_issuer, options.oidc_jwks) if url]
    ports = sorted({split_address(url).port or 443 for url in urls})
    return [outward("issuer-gateway", GATEWAY, ports, PUBLIC)] if ports else []


def to_namespace(name: str, party: str, namespace: str, ports: Sequence[int]) -> Document:
    """Let a party reach ports of another namespace's pods."""
    to = [{"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}]
    return policy(name, parties()[party].labels, egress=[{"to": to, "ports": _ports(ports)}])


def from_namespace(name: str, selector: Document, namespace: str, ports: Sequence[int]) -> Document:
    """Let another namespace's pods reach ports of the selected ones."""
    peers = [{"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}]
    rule = {"from": peers, "ports": _ports(ports)}
    return _document(name, selector, {"ingress": [rule]})


def policy(name: str, labels: dict[str, str], **directions: Any) -> Document:
    """A NetworkPolicy over the pods with these labels; all pods without any."""
    return _document(name, {"matchLabels": labels} if labels else {}, directions)


def _document(name: str, selector: Document, directions: dict[str, Any]) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "podSelector": selector,
            "policyTypes": [direction.capitalize() for direction in directions],
            # The API server stores no empty list, and would take one for a change at every apply.
            **{direction: rules for direction, rules in directions.items() if rules},
        },
    }


def _peer(name: str) -> Document:
    kind, _, namespace = name.partition(":")
    if kind == "namespace":
        return {"namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}}}
    return {"podSelector": {"matchLabels": parties()[name].labels}}


def _ports(ports: Sequence[int]) -> list[Document]:
    return [{"protocol": "TCP", "port": port} for port in ports]
