"""What `gearshift rollout run` may do on a cluster: change services and the graph, no more."""

from __future__ import annotations

from typing import Any

from inference_graph.manifests.gateway import accounts
from inference_graph.manifests.parts import Document, ManifestOptions, component

ROLLOUT = "rollout"
_KSERVE = "serving.kserve.io"


def rollout_files(options: ManifestOptions, policies: list[Document]) -> dict[str, list[Any]]:
    """The component ``rollout``, by file name: an account for the pod that controls a rollout.

    The pod itself is started for one rollout and ends with it; docs/operations.md shows how.

    Args:
        options: what differs between clusters.
        policies: what that pod may reach.
    """
    metadata = {"name": ROLLOUT}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": dict(metadata),
        "rules": [
            {
                "apiGroups": [_KSERVE],
                "resources": ["inferenceservices"],
                "verbs": ["get", "create", "update", "delete"],
            },
            {"apiGroups": [_KSERVE], "resources": ["inferencegraphs"], "verbs": ["get", "update"]},
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": dict(metadata),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLLOUT},
        "subjects": [{"kind": "ServiceAccount", "name": ROLLOUT, "namespace": options.namespace}],
    }
    return {
        "components/rollout/rollout.yaml": [*accounts(ROLLOUT), role, binding, *policies],
        **component("rollout", options, resources=["rollout.yaml"]),
    }
