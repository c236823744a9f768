"""Time for the graph's routers to end, which an InferenceGraph cannot ask for.

KServe's router goes on answering for 30 s after SIGTERM (``cmd/router/main.go``), which is what its
pods are given altogether, so requests that arrive over kept connections are cut off at the end. A
policy of the cluster gives new pods more; Kubernetes has such policies from 1.36 on, so no overlay
brings it by itself.
"""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests.parts import DRAIN_SECONDS, Document, ManifestOptions, grace

_API = "admissionregistration.k8s.io/v1"
_LABEL = "serving.kserve.io/inferencegraph"


def draining_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The component ``graph-drain``, by file name.

    Args:
        options: what differs between clusters; two namespaces may each have their own.
    """
    name = f"{options.namespace}-graph-drain"
    seconds = grace(DRAIN_SECONDS)["terminationGracePeriodSeconds"]
    pods: Document = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    policy = {
        "apiVersion": _API,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": [pods],
                "objectSelector": {"matchExpressions": [{"key": _LABEL, "operator": "Exists"}]},
            },
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {
                        "expression": "Object{spec: Object.spec{"
                        f"terminationGracePeriodSeconds: {seconds}}}}}"
                    },
                }
            ],
        },
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": options.namespace}}
    binding = {
        "apiVersion": _API,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {"namespaceSelector": here}},
    }
    # Both are the cluster's, so no namespace is set.
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": ["policy.yaml"],
    }
    return {
        "components/graph-drain/policy.yaml": [policy, binding],
        "components/graph-drain/kustomization.yaml": [kustomization],
    }
