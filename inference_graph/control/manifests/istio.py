"""Istio in ambient mode: every pod proves who it is, and only the flows are let through.

Ambient, because a sidecar needs rights that these pods have given up, and outlives a CronJob's
container. Its node proxy knows identities and ports, which is all that the flows are made of.
"""

from __future__ import annotations

from typing import Any

from inference_graph.contract import LADDER
from inference_graph.control.manifests.dashboard import DASHBOARD, DASHBOARD_PORT
from inference_graph.control.manifests.documents import TRANSFORMER
from inference_graph.control.manifests.flows import EVERYBODY, Flow, all_flows, concerned, parties
from inference_graph.control.manifests.gateway import GATEWAY, GATEWAY_PORT
from inference_graph.control.manifests.network import flow_policies, policy
from inference_graph.control.manifests.parts import (
    HTTP_PORT,
    ROUTER,
    Document,
    ManifestOptions,
    component,
)

TUNNEL_PORT = 15008
"""Where the mesh delivers everything, whatever port it was sent to."""
_PROBES = "169.254.7.127/32"
"""Address that the mesh gives the node's own probes."""
_API = "security.istio.io/v1"


def istio_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The component ``istio``, by file name.

    It holds for every other component; a policy for pods that are not there changes nothing.

    Args:
        options: what differs between clusters.
    """
    flows = all_flows(options)
    label = [{
        "op": "add", "path": "/metadata/labels/istio.io~1dataplane-mode", "value": "ambient",
    }]  # fmt: skip
    probes = policy("mesh-probes", {}, ingress=[{"from": [{"ipBlock": {"cidr": _PROBES}}]}])
    return {
        "components/istio/authorization.yaml": [
            _strict(),
            *(_plain(name, port) for name, port in _FROM_OUTSIDE),
            _document("AuthorizationPolicy", "deny-all", {}),
            *_allowed(flows, options),
            *_scraped(options),
        ],
        "components/istio/tunnel.yaml": [
            probes,
            *flow_policies(flows, prefix="mesh-", ports=(TUNNEL_PORT,)),
        ],
        "components/istio/namespace.yaml": [label],
        **component(
            "istio",
            options,
            resources=["authorization.yaml", "tunnel.yaml"],
            patches=[
                {
                    "path": "namespace.yaml",
                    "target": {"kind": "Namespace", "name": options.namespace},
                }
            ],
        ),
    }


_FROM_OUTSIDE = ((GATEWAY, GATEWAY_PORT), (DASHBOARD, DASHBOARD_PORT))
"""What an ingress reaches, which is often no part of the mesh."""


def _strict() -> Document:
    return _document("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}})


def _plain(name: str, port: int) -> Document:
    """Connections without a certificate are taken at one port, where something else asks who."""
    spec = {
        "selector": {"matchLabels": parties()[name].labels},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {str(port): {"mode": "PERMISSIVE"}},
    }
    return _document("PeerAuthentication", f"{name}-ingress", spec)


def _allowed(flows: list[Flow], options: ManifestOptions) -> list[Document]:
    """One AuthorizationPolicy a target: which accounts may connect to which of its ports."""
    found = []
    for name in concerned(flows):
        rules = [_rule(flow, options) for flow in flows if flow.target == name]
        if name == DASHBOARD:
            rules.append(_rule(Flow(EVERYBODY, DASHBOARD, (DASHBOARD_PORT,)), options))
        if rules:
            spec = {
                "selector": {"matchLabels": parties()[name].labels},
                "action": "ALLOW",
                "rules": rules,
            }
            found.append(_document("AuthorizationPolicy", name, spec))
    return found


def _scraped(options: ManifestOptions) -> list[Document]:
    """Prometheus reads figures; its namespace has to be in the mesh to have an identity."""
    rule = {
        "from": [{"source": {"namespaces": [options.prometheus_namespace]}}],
        "to": [{"operation": {"ports": [str(HTTP_PORT)]}}],
    }
    return [
        _document(
            "AuthorizationPolicy",
            f"scrape-{name}",
            {
                "selector": {"matchLabels": parties()[name].labels},
                "action": "ALLOW",
                "rules": [rule],
            },
        )
        for name in (*LADDER, ROUTER, TRANSFORMER)
    ]


def _rule(flow: Flow, options: ManifestOptions) -> Document:
    to = [{"operation": {"ports": [str(port) for port in flow.ports]}}]
    if flow.source == EVERYBODY:
        return {"to": to}
    kind, _, namespace = flow.source.partition(":")
    if kind == "namespace":
        source: Document = {"namespaces": [namespace]}
    else:
        account = parties()[flow.source].account
        source = {"principals": [f"cluster.local/ns/{options.namespace}/sa/{account}"]}
    return {"from": [{"source": source}], "to": to}


def _document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": spec}
