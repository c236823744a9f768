"""What a launch on Kubeflow Pipelines needs: a way there, and the right to start runs."""

from __future__ import annotations

from typing import Any

from foundation.addresses import split_address
from inference_graph.control.manifests.gateway import GATEWAY
from inference_graph.control.manifests.network import PUBLIC, outward, to_namespace
from inference_graph.control.manifests.parts import Document, ManifestOptions
from inference_graph.control.manifests.triggers import PIPELINES, TRIGGERS

LAUNCHERS = (GATEWAY, TRIGGERS)
"""The gateway launches what requests and alerts ask for, the other what its rules say."""


def launch_policies(options: ManifestOptions) -> list[Document]:
    """Let the gateway and the triggers reach Kubeflow, in the cluster or elsewhere."""
    parts = split_address(options.kubeflow_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name, *rest = (parts.hostname or "").split(".")
    # A name of the cluster: SERVICE.NAMESPACE, with or without what stands behind it.
    inside = bool(name) and bool(rest) and (len(rest) == 1 or rest[1] == "svc")
    return [
        to_namespace(f"kubeflow-{party}", party, rest[0], (port,))
        if inside
        else outward(f"kubeflow-{party}", party, (port,), PUBLIC)
        for party in LAUNCHERS
    ]


def runs_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The component ``kubeflow-runs``, by file name; its documents are of the runs' namespace.

    Args:
        options: what differs between clusters.
    """
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": ["rights.yaml"],
    }
    return {
        "components/kubeflow-runs/rights.yaml": _may_run(options),
        "components/kubeflow-runs/kustomization.yaml": [kustomization],
    }


def _may_run(options: ManifestOptions) -> list[Document]:
    """The right to start runs, in the namespace where they are: Kubeflow asks the cluster."""
    metadata = {"name": f"{options.namespace}-runs", "namespace": options.kubeflow_namespace}
    group = "rbac.authorization.k8s.io"
    asked = {
        "runs": ["create", "get", "terminate"],
        "experiments": ["list", "create", "get"],
        "pipelines": ["get"],
    }
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": dict(metadata),
            "rules": [
                {"apiGroups": [PIPELINES], "resources": [kind], "verbs": verbs}
                for kind, verbs in asked.items()
            ],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": metadata["name"]},
            "subjects": [
                {"kind": "ServiceAccount", "name": name, "namespace": options.namespace}
                for name in LAUNCHERS
            ],
        },
    ]
