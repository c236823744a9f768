"""HTTPS by an Ingress: to the gateway, which asks for tokens, and to the dashboard behind a login.

ingress-nginx gets no more releases; :mod:`inference_graph.control.manifests.gateway_api` does the
same with any controller of the Gateway API.

Certificates come from cert-manager, which KServe needs anyway.
"""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests.dashboard import DASHBOARD, DASHBOARD_PORT
from inference_graph.control.manifests.flows import parties
from inference_graph.control.manifests.gateway import GATEWAY, GATEWAY_PORT
from inference_graph.control.manifests.network import from_namespace, policy
from inference_graph.control.manifests.parts import Document, ManifestOptions, component

ISSUER = "letsencrypt"
"""The ClusterIssuer that is asked for certificates."""
_LONGEST_SECONDS = 86_400
"""A stream lives as long as its client wants; an ingress would cut it after half a minute."""
_LARGEST = "12m"
"""A little above the gateway's own bound on a request, so that the gateway says what is wrong."""
_GOOGLE_PROXIES = ("35.191.0.0/16", "130.211.0.0/22")
"""From where Google's load balancers and their health checks connect."""
_NGINX_NAMESPACE = "ingress-nginx"


def ingress_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The components ``ingress-gke`` and ``ingress-nginx``, by file name.

    Args:
        options: what differs between clusters.
    """
    return {**_google(options), **_nginx(options)}


def _google(options: ManifestOptions) -> dict[str, list[Any]]:
    redirect = {
        "apiVersion": "networking.gke.io/v1beta1",
        "kind": "FrontendConfig",
        "metadata": {"name": "gearshift"},
        "spec": {"redirectToHttps": {"enabled": True}},
    }
    addresses = [{"ipBlock": {"cidr": cidr}} for cidr in _GOOGLE_PROXIES]
    entrances = [
        policy(
            f"ingress-{name}",
            parties()[name].labels,
            ingress=[{"from": addresses, "ports": [{"protocol": "TCP", "port": port}]}],
        )
        for name, port in ((DASHBOARD, DASHBOARD_PORT),)
    ]
    annotations = {
        "networking.gke.io/v1beta1.FrontendConfig": "gearshift",
        "kubernetes.io/ingress.class": "gce",
    }
    documents = [
        _ingress("gearshift", options.hostname, gateway_paths(), annotations),
        _ingress("dashboard", f"dashboard.{options.hostname}", [("/", DASHBOARD)], annotations),
        redirect,
        _backend(GATEWAY, "/readyz", GATEWAY_PORT),
        _backend(f"{GATEWAY}-first", "/readyz", GATEWAY_PORT),
        # Identity-Aware Proxy asks for a Google login before anybody sees a frame.
        _backend(DASHBOARD, "/", DASHBOARD_PORT, iap={
            "enabled": True, "oauthclientCredentials": {"secretName": "gearshift-iap"},
        }),
        *entrances,
    ]  # fmt: skip
    patches = {
        name: [
            {
                "op": "add",
                "path": "/metadata/annotations",
                "value": {
                    "cloud.google.com/backend-config": f'{{"default": "{name}"}}',
                    "cloud.google.com/neg": '{"ingress": true}',
                },
            }
        ]
        for name in (GATEWAY, f"{GATEWAY}-first", DASHBOARD)
    }
    return {
        "components/ingress-gke/ingress.yaml": documents,
        **{f"components/ingress-gke/{name}.yaml": [patch] for name, patch in patches.items()},
        **component(
            "ingress-gke",
            options,
            resources=["ingress.yaml"],
            patches=[
                {"path": f"{name}.yaml", "target": {"kind": "Service", "name": name}}
                for name in patches
            ],
        ),
    }


def _backend(name: str, path: str, port: int, **more: Any) -> Document:
    """How Google's load balancer treats a Service."""
    check = {"type": "HTTP", "requestPath": path, "port": port, "checkIntervalSec": 10}
    return {
        "apiVersion": "cloud.google.com/v1",
        "kind": "BackendConfig",
        "metadata": {"name": name},
        "spec": {
            "timeoutSec": _LONGEST_SECONDS,
            "connectionDraining": {"drainingTimeoutSec": 60},
            "healthCheck": check,
            **more,
        },
    }


def _nginx(options: ManifestOptions) -> dict[str, list[Any]]:
    prefix = "nginx.ingress.kubernetes.io"
    streams = {
        f"{prefix}/proxy-read-timeout": str(_LONGEST_SECONDS),
        f"{prefix}/proxy-send-timeout": str(_LONGEST_SECONDS),
        f"{prefix}/proxy-body-size": _LARGEST,
        f"{prefix}/force-ssl-redirect": "true",
    }
    login = f"https://login.{options.hostname}/oauth2"
    asked = {
        # oauth2-proxy answers whether there is a login, and sends who has none to get one.
        f"{prefix}/auth-url": f"{login}/auth",
        f"{prefix}/auth-signin": f"{login}/start?rd=https://$host$escaped_request_uri",
        f"{prefix}/force-ssl-redirect": "true",
    }
    documents = [
        _ingress("gearshift", options.hostname, gateway_paths(), streams, "nginx"),
        _ingress("dashboard", f"dashboard.{options.hostname}", [("/", DASHBOARD)], asked, "nginx"),
        from_namespace(
            "ingress-dashboard",
            {"matchLabels": parties()[DASHBOARD].labels},
            _NGINX_NAMESPACE,
            (DASHBOARD_PORT,),
        ),
    ]
    return {
        "components/ingress-nginx/ingress.yaml": documents,
        **component("ingress-nginx", options, resources=["ingress.yaml"]),
    }


def gateway_paths() -> list[tuple[str, str]]:
    """Requests that launch something are counted by one replica; see the gateway's Services."""
    return [("/v1/triggers", f"{GATEWAY}-first"), ("/v1", GATEWAY)]


def _ingress(
    name: str,
    host: str,
    paths: list[tuple[str, str]],
    annotations: dict[str, str],
    of_class: str = "",
) -> Document:
    rules = [
        {
            "path": path,
            "pathType": "Prefix",
            "backend": {"service": {"name": service, "port": {"name": "http"}}},
        }
        for path, service in paths
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "annotations": {"cert-manager.io/cluster-issuer": ISSUER, **annotations},
        },
        "spec": {
            # Google's controller knows itself by an annotation only.
            **({"ingressClassName": of_class} if of_class else {}),
            "tls": [{"hosts": [host], "secretName": f"{name}-tls"}],
            "rules": [{"host": host, "http": {"paths": rules}}],
        },
    }
