"""The overlays that install the whole platform: on a laptop, on GKE, on premises, on one node."""

from __future__ import annotations

from typing import Any

from inference_graph.contract import LADDER
from inference_graph.control.manifests.dashboard import DASHBOARD
from inference_graph.control.manifests.flows import Flow, serving_flows
from inference_graph.control.manifests.gateway import GATEWAY, accounts, gateway, namespace
from inference_graph.control.manifests.mlflow import MLFLOW
from inference_graph.control.manifests.network import closed, flow_policies, issuer_policies
from inference_graph.control.manifests.parts import (
    ROUTER,
    Document,
    ManifestOptions,
    component,
    in_registry,
)
from inference_graph.control.manifests.stores import DATABASE, OBJECTS
from inference_graph.control.manifests.trust import trust_documents

OVERLAYS: dict[str, tuple[str, ...]] = {
    "gpu": ("components/gpu-nodes",),
    "cpu": ("components/cpu",),
    "shadow": ("components/shadow",),
    "cpu-shadow": ("components/cpu", "components/shadow"),
    "kind": (
        "components/cpu",
        "components/shadow",
        "components/dashboard",
        "components/stores",
        "components/mlflow",
        "components/artifacts",
        "components/rollout",
        "drift",
        "components/laptop",
    ),
    "gke": (
        "components/gpu-nodes",
        "components/gke-nodes",
        "components/shadow",
        "components/dashboard",
        "components/mlflow",
        "components/rollout",
        "drift",
        "components/triggers",
        "components/bucket-gs",
        "components/keda",
        "components/ingress-gke",
        "monitoring",
        "components/istio",
    ),
    "onprem": (
        "components/gpu-nodes",
        "components/shadow",
        "components/dashboard",
        "components/stores",
        "components/mlflow",
        "components/rollout",
        "drift",
        "components/triggers",
        "components/bucket-s3",
        "components/hpa",
        "components/gateway-api",
        "monitoring",
    ),
}
"""The base with these components; a later one may change what an earlier one brought."""
ELSEWHERE: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("gke", "onprem"), ("components/kubeflow-runs",)
)
"""Components with documents of another namespace; they come last, for a component with a namespace
gives it to everything before."""
EDGE = "edge"
_LAPTOP_CORES = "100m"
_ACCELERATOR = "nvidia-l4"


def target_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The overlays' own components, and the overlay ``edge``, by file name.

    Args:
        options: what differs between clusters.
    """
    return {**_laptop(options), **_gke_nodes(options), **_edge(options)}


def _laptop(options: ManifestOptions) -> dict[str, list[Any]]:
    """Ask for next to no cores: a laptop shares them, and its frames may wait."""
    asked = "resources/requests/cpu"
    first = f"/spec/template/spec/containers/0/{asked}"
    paths = [
        ("detectors", "InferenceService", "|".join(LADDER), [f"/spec/predictor/model/{asked}"]),
        (
            "router",
            "InferenceService",
            ROUTER,
            [f"/spec/predictor/model/{asked}", f"/spec/transformer/containers/0/{asked}"],
        ),
        ("graph", "InferenceGraph", "gearshift", [f"/spec/{asked}"]),
        ("stateful", "StatefulSet", f"{GATEWAY}|{DATABASE}|{OBJECTS}", [first]),
        ("deployments", "Deployment", f"{DASHBOARD}|{MLFLOW}", [first]),
    ]
    files: dict[str, list[Any]] = {}
    patches = []
    for name, kind, target, places in paths:
        operations = [{"op": "replace", "path": at, "value": _LAPTOP_CORES} for at in places]
        files[f"components/laptop/{name}.yaml"] = [operations]
        patches.append({"path": f"{name}.yaml", "target": {"kind": kind, "name": target}})
    return files | component("laptop", options, patches=patches)


def _gke_nodes(options: ManifestOptions) -> dict[str, list[Any]]:
    """Rungs run on one kind of GPU, because a profile holds for the kind it was measured on."""
    chosen = {"cloud.google.com/gke-accelerator": _ACCELERATOR}
    operation = {"op": "add", "path": "/spec/predictor/nodeSelector", "value": chosen}
    target = {"kind": "InferenceService", "name": "|".join(LADDER)}
    return {
        "components/gke-nodes/detectors.yaml": [[operation]],
        **component("gke-nodes", options, patches=[{"path": "detectors.yaml", "target": target}]),
    }


def _edge(options: ManifestOptions) -> dict[str, list[Any]]:
    """One pod on one node: the gateway with the three rungs inside, on the CPU, without KServe."""
    entrance: list[Flow] = [
        flow
        for flow in serving_flows(options)
        if flow.target == GATEWAY and flow.source not in LADDER
    ]
    documents: dict[str, list[Document]] = {
        "namespace.yaml": [namespace(options), *accounts(GATEWAY)],
        # One replica needs no Service for the first.
        "gateway.yaml": [
            *gateway(options, in_process=True)[:2],
            *trust_documents(options),
        ],
        "network.yaml": [*closed(), *flow_policies(entrance), *issuer_policies(options)],
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": options.namespace,
        "resources": list(documents),
        "images": [{"name": in_registry(options, options.image), "newTag": options.version}],
    }
    files: dict[str, list[Any]] = {
        f"overlays/{EDGE}/{name}": found for name, found in documents.items()
    }
    return {**files, f"overlays/{EDGE}/kustomization.yaml": [kustomization]}
