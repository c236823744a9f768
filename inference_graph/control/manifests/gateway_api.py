"""HTTPS from outside by the Gateway API, which every current controller speaks.

As with an Ingress (:mod:`inference_graph.control.manifests.ingress`) the gateway asks for tokens
itself, and nobody reaches the dashboard but through what asks for a login. Here that is
oauth2-proxy as a reverse proxy: it passes on who is logged in.
"""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests.dashboard import DASHBOARD, DASHBOARD_PORT
from inference_graph.control.manifests.flows import parties
from inference_graph.control.manifests.gateway import GATEWAY
from inference_graph.control.manifests.ingress import ISSUER, gateway_paths
from inference_graph.control.manifests.network import from_namespace
from inference_graph.control.manifests.parts import Document, ManifestOptions, component

LOGIN = "oauth2-proxy"
"""Namespace and Service of the proxy that asks for a login."""
_API = "gateway.networking.k8s.io/v1"
_NAME = "gearshift"
_ENDLESS = {"request": "0s"}
"""A stream lives as long as its client wants; a controller's own limit would cut it."""


def gateway_api_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The component ``gateway-api``, by file name.

    Args:
        options: what differs between clusters.
    """
    documents = [
        _gateway(options),
        _route("redirect", "http", [], [_redirect()]),
        _route(
            GATEWAY,
            GATEWAY,
            [options.hostname],
            [
                {**_to(service, path), "timeouts": dict(_ENDLESS)}
                for path, service in gateway_paths()
            ],
        ),
        _route(DASHBOARD, DASHBOARD, [f"{DASHBOARD}.{options.hostname}"], [_to(LOGIN, "/", LOGIN)]),
        from_namespace(
            "login-dashboard",
            {"matchLabels": parties()[DASHBOARD].labels},
            LOGIN,
            (DASHBOARD_PORT,),
        ),
    ]
    return {
        "components/gateway-api/gateway.yaml": documents,
        **component("gateway-api", options, resources=["gateway.yaml"]),
    }


def _gateway(options: ManifestOptions) -> Document:
    """Its certificates are made by cert-manager, which reads the issuer here."""
    hosts = {GATEWAY: options.hostname, DASHBOARD: f"{DASHBOARD}.{options.hostname}"}
    encrypted = [
        {
            "name": name,
            "port": 443,
            "protocol": "HTTPS",
            "hostname": host,
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": f"{name}-tls"}]},
        }
        for name, host in hosts.items()
    ]
    return {
        "apiVersion": _API,
        "kind": "Gateway",
        "metadata": {"name": _NAME, "annotations": {"cert-manager.io/cluster-issuer": ISSUER}},
        "spec": {
            "gatewayClassName": options.gateway_class,
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}, *encrypted],
        },
    }


def _route(name: str, listener: str, hosts: list[str], rules: list[Document]) -> Document:
    return {
        "apiVersion": _API,
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": _NAME, "sectionName": listener}],
            **({"hostnames": hosts} if hosts else {}),
            "rules": rules,
        },
    }


def _redirect() -> Document:
    secure = {"scheme": "https", "statusCode": 301}
    return {"filters": [{"type": "RequestRedirect", "requestRedirect": secure}]}


def _to(service: str, path: str, namespace: str = "") -> Document:
    backend: Document = {"name": service, "port": 80}
    if namespace:
        backend["namespace"] = namespace
    return {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [backend],
    }
