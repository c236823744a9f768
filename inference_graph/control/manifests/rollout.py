"""A rollout's controller on a cluster: it may change services and the graph, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_graph.contract import LADDER
from inference_graph.control.manifests.gateway import (
    GATEWAY_PODS,
    GATEWAY_PORT,
    LOG_FOLDER,
    accounts,
    audit_variable,
    beside_the_log,
    log_volume,
)
from inference_graph.control.manifests.graphs import GRAPH
from inference_graph.control.manifests.parts import (
    CANARY_SUFFIX,
    ROUTER,
    Document,
    ManifestOptions,
    component,
    confined,
    deployment,
    image,
    pod,
    resources,
)

ROLLOUT = "rollout"
OPERATE_SECRET = "gearshift-operate"
"""Secret with a token of the role operate, under the key ``token``."""
LOG_ARGUMENT = "--log="
FOLDER_VARIABLE = "GEARSHIFT_ROLLOUTS"
_KSERVE = "serving.kserve.io"


def rollout_files(options: ManifestOptions, policies: list[Document]) -> dict[str, list[Any]]:
    """The component ``rollout``, by file name: a controller, and the account with its rights.

    It may be scaled to none between two rollouts, so that nobody uses its rights. What it does
    stands on the first gateway's claim, and outlives it.

    Args:
        options: what differs between clusters.
        policies: what that pod may reach.
    """
    metadata = {"name": ROLLOUT}
    services = (*LADDER, ROUTER)
    canaries = tuple(f"{name}{CANARY_SUFFIX}" for name in services)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": dict(metadata),
        "rules": [
            _rule(_KSERVE, "inferenceservices", ("get", "update"), (*services, *canaries)),
            _rule(_KSERVE, "inferenceservices", ("delete",), canaries),
            # What is not there yet cannot be asked for by its name.
            _rule(_KSERVE, "inferenceservices", ("create",)),
            _rule(_KSERVE, "inferencegraphs", ("get", "update"), (GRAPH,)),
            # What serves is seen at the pods; KServe's own status does not tell.
            _rule("apps", "deployments", ("get",), (*_deployments((*services, *canaries)), GRAPH)),
            _rule("apps", "deployments/scale", ("patch",), _deployments(canaries)),
            # Their names end with what Kubernetes draws.
            _rule("discovery.k8s.io", "endpointslices", ("list",)),
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": dict(metadata),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLLOUT},
        "subjects": [{"kind": "ServiceAccount", "name": ROLLOUT, "namespace": options.namespace}],
    }
    documents = [*accounts(ROLLOUT), role, binding, _deployment(options), *policies]
    return {
        "components/rollout/rollout.yaml": documents,
        **component("rollout", options, resources=["rollout.yaml"]),
    }


def _rule(group: str, kind: str, verbs: Sequence[str], names: Sequence[str] = ()) -> Document:
    rule: Document = {"apiGroups": [group], "resources": [kind], "verbs": list(verbs)}
    return rule | ({"resourceNames": list(names)} if names else {})


def _deployments(services: Sequence[str]) -> list[str]:
    """Of InferenceServices in Standard mode; the router has a transformer before it."""
    return [
        f"{name}-{part}"
        for name in services
        for part in ("predictor", "transformer")
        if part == "predictor" or name.startswith(ROUTER)
    ]


def _deployment(options: ManifestOptions) -> Document:
    token = {"name": OPERATE_SECRET, "key": "token", "optional": True}
    container = {
        "name": ROLLOUT,
        **image(options, "python"),
        "command": ["gearshift", "rollout", "run"],
        "args": [
            f"--namespace={options.namespace}",
            f"{LOG_ARGUMENT}{options.log_url}",
            f"--gateway=http://{GATEWAY_PODS}:{GATEWAY_PORT}",
            "--stay",
        ],
        "env": [
            # Its commands, given by `kubectl exec`, work on the same folder.
            {"name": FOLDER_VARIABLE, "value": f"{LOG_FOLDER}/rollouts"},
            {"name": "GEARSHIFT_TOKEN", "valueFrom": {"secretKeyRef": token}},
            audit_variable(),
        ],
        "resources": resources("100m", "1Gi"),
        "securityContext": confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "log", "mountPath": LOG_FOLDER},
        ],
    }
    spec = pod(ROLLOUT, [container], [log_volume()], affinity=beside_the_log())
    spec["automountServiceAccountToken"] = True  # the only pod that asks the cluster's API
    made = deployment(ROLLOUT, spec, strategy={"type": "Recreate"})
    # How many there are is not the manifest's to say: an apply in the middle of a rollout would end
    # its controller, or start one that somebody had stopped.
    del made["spec"]["replicas"]
    return made
