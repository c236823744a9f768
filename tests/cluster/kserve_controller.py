"""KServe's controller with its webhooks, installed from its own manifests, run as a process.

Its manifests are KServe's ``config/`` as its Go module has it. Three things differ from a real
installation: the webhooks are called at an address of this machine, their certificate is not from
cert-manager, and the controller is a process instead of a pod. It acts with the rights of its own
service account.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml
from control_plane import Cluster, process, wait
from processes import closed_port
from tools import KSERVE, folder, program

NAMESPACE = "kserve"
_LEFT_OUT = ("Certificate", "Issuer", "Deployment")
"""Kinds of KServe's manifests that need cert-manager or a kubelet."""
_OTHERS = ("kafka", "kubeflow", "monitoring")
"""Namespaces of others, in which our manifests have objects too."""
_SETTINGS: dict[str, dict[str, Any]] = {
    "deploy": {"defaultDeploymentMode": "Standard"},
    "ingress": {"enableGatewayApi": True, "disableIstioVirtualHost": True},
    **{name: {"image": f"kserve/{name}:{KSERVE}"} for name in ("agent", "router")},
}
"""What an installation says: Standard mode, callers that come by the Gateway API, and images of
its version, where KServe's source says ``latest``."""
CRDS = {
    "gateway": (
        "gatewayclasses.gateway.networking.k8s.io",
        "gateways.gateway.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
    ),
    "keda": ("scaledobjects.keda.sh", "triggerauthentications.keda.sh"),
    "istio": ("authorizationpolicies.security.istio.io", "peerauthentications.security.istio.io"),
    "prometheus": (
        "podmonitors.monitoring.coreos.com",
        "prometheusrules.monitoring.coreos.com",
        "servicemonitors.monitoring.coreos.com",
    ),
}
"""CRDs that the manifests, or KServe, write objects of; others of these projects stay out."""

_OPEN = (
    ("flink.apache.org", "v1beta1", "FlinkDeployment"),
    ("kafka.strimzi.io", "v1", "KafkaTopic"),
)
"""Kinds of operators whose CRDs come with no Go module: any object of them is taken."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads a bare ``=``, which stands in a CRD, as text, as Kubernetes does."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def documents(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [one for one in yaml.load_all(text, Loader=_Loader) if one]


def install(cluster: Cluster, port: int) -> None:
    """Put the CRDs, the rights, the settings and the webhooks of KServe into a cluster."""
    kserve = folder() / "kserve"
    crds = [
        one
        for name, wanted in CRDS.items()
        for path in sorted((folder() / "crds" / name).glob("*.yaml"))
        for one in documents(path.read_text())
        if one["metadata"]["name"] in wanted
    ]
    assert len(crds) == sum(map(len, CRDS.values()))
    rendered = documents(cluster.kubectl("kustomize", str(kserve / "default")))
    kept = [one for one in rendered if one["kind"] not in _LEFT_OUT]
    for one in kept:
        for webhook in one.get("webhooks", ()):
            webhook["clientConfig"] = _reached(cluster, webhook["clientConfig"], port)
        if one["kind"] == "CustomResourceDefinition":
            one["spec"].pop("conversion", None)
    mapping = documents((kserve / "configmap" / "inferenceservice.yaml").read_text())[0]
    for name, values in _SETTINGS.items():
        mapping["data"][name] = json.dumps({**json.loads(mapping["data"][name]), **values})
    storage = documents((kserve / "storagecontainers" / "default.yaml").read_text())
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in (NAMESPACE, *_OTHERS)
    ]
    crds += [one for one in kept if one["kind"] == "CustomResourceDefinition"]
    crds += [_open_crd(*one) for one in _OPEN]
    kept = [one for one in kept if one["kind"] != "CustomResourceDefinition"]
    cluster.apply([*namespaces, *crds, mapping, *kept])
    wait("the CRDs", lambda: _established(cluster))
    cluster.apply(storage)


def _open_crd(group: str, version: str, kind: str) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                }
            ],
        },
    }


@contextmanager
def kserve_controller(cluster: Cluster) -> Iterator[None]:
    """KServe's controller for a cluster in which nothing of KServe is yet."""
    port, probe = closed_port(), closed_port()
    install(cluster, port)
    certificates = cluster.folder / "k8s-webhook-server" / "serving-certs"
    certificates.mkdir(parents=True)
    pair = cluster.certificate("kserve-webhook-server-service.kserve.svc")
    for name, content in zip(("tls.crt", "tls.key"), pair, strict=True):
        (certificates / name).write_bytes(content)
    account = cluster.account_config("kserve-controller-manager", NAMESPACE)
    command = [
        program("manager"),
        "--metrics-addr=0",
        f"--webhook-port={port}",
        f"--health-probe-addr=127.0.0.1:{probe}",
        f"--kubeconfig={account}",
    ]
    variables = {"TMPDIR": str(cluster.folder), "POD_NAMESPACE": NAMESPACE}
    with process(cluster.folder, "kserve-controller", command, variables) as running:

        def serves() -> bool:
            if running.poll() is not None:
                message = (cluster.folder / "kserve-controller.log").read_text(errors="replace")
                raise AssertionError(f"KServe's controller ended: {message[-2000:]}")
            trusted = ssl.create_default_context(cafile=str(cluster.folder / "ca.crt"))
            try:
                urllib.request.urlopen(f"https://127.0.0.1:{port}/", context=trusted, timeout=2)
            except urllib.error.HTTPError:
                return True  # it answers, be it "not found"
            except OSError:
                return False
            return True

        wait("KServe's webhooks", serves)
        yield


def _reached(cluster: Cluster, config: Mapping[str, Any], port: int) -> dict[str, str]:
    authority = base64.b64encode((cluster.folder / "ca.crt").read_bytes()).decode()
    return {"url": f"https://127.0.0.1:{port}{config['service']['path']}", "caBundle": authority}


def _established(cluster: Cluster) -> bool:
    crds = cluster.ask("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    conditions = [one.get("status", {}).get("conditions") or () for one in crds]
    return all(
        any(one["type"] == "Established" and one["status"] == "True" for one in found)
        for found in conditions
    )
