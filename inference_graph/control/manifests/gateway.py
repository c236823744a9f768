"""The streaming gateway beside KServe's services, and the namespace of all."""

from __future__ import annotations

from foundation.audit_log import AUDIT
from inference_graph.contract import LADDER
from inference_graph.control.manifests.parts import (
    GATEWAY_DRAIN_SECONDS,
    GRPC_PORT,
    MODELS,
    PODS,
    POLICY_FILE,
    Document,
    ManifestOptions,
    claim_template,
    confined,
    draining,
    grace,
    image,
    pod,
    probes,
    resources,
    service,
)
from inference_graph.control.manifests.trust import trust_mounts, trust_variables, trust_volumes
from inference_graph.prediction_log.memory import ONE_ALLOCATOR

GATEWAY, GATEWAY_PORT = "gateway", 8600
GATEWAY_PODS = f"{GATEWAY}{PODS}"
"""The Service that resolves to every gateway: each has to be told what share a canary gets."""
LOG_FOLDER = "/var/lib/gearshift"
"""Where the log and its journal lie."""
LOG_CLAIM = f"log-{GATEWAY}-0"
"""The claim of the first gateway, which others that read or add to its folder mount too."""
FIRST_GATEWAY = {"statefulset.kubernetes.io/pod-name": f"{GATEWAY}-0"}
"""What Kubernetes labels the pod with that holds this claim."""
AUDIT_FILE = "audit.jsonl"
"""Below that folder."""
LOG_ARGUMENT = "--log_url="
LADDER_FOLDER = "/mnt/ladder"
"""Where the weights lie for a gateway that runs them itself."""


def gateway(options: ManifestOptions, in_process: bool = False) -> list[Document]:
    """The streaming gateway: a StatefulSet, so that every replica finds its journal again.

    With a log in a folder there is one replica, whose claim holds it; with a log in a bucket there
    may be more, and the claims hold what has not reached the bucket yet.

    Args:
        options: what differs between clusters.
        in_process: run the rungs inside the gateway, for a node without KServe.
    """
    labels = {"app": GATEWAY}
    stateful = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": GATEWAY, "labels": dict(labels)},
        "spec": {
            "replicas": 1,
            "serviceName": GATEWAY,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": dict(labels)},
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": _pod(options, in_process),
            },
            "volumeClaimTemplates": [claim_template("log", "20Gi")],
        },
    }
    first = service(f"{GATEWAY}-first", 80, GATEWAY_PORT)
    # Triggers are counted in one place, or their limits would hold for each replica.
    first["spec"]["selector"] = dict(FIRST_GATEWAY)
    every = service(GATEWAY_PODS, GATEWAY_PORT, GATEWAY_PORT, clusterIP="None")
    every["spec"]["selector"] = dict(labels)
    return [stateful, service(GATEWAY, 80, GATEWAY_PORT), first, every]


def _pod(options: ManifestOptions, in_process: bool) -> Document:
    """The gateway's pod; the volume ``log`` comes from the claim's template."""
    targets = {
        rung: f"{LADDER_FOLDER}/{rung}.onnx" if in_process else f"dns:///{rung}{PODS}:{GRPC_PORT}"
        for rung in LADDER
    }
    folders = {MODELS: "policy"} | ({LADDER_FOLDER: "ladder"} if in_process else {})
    event_key = {"name": "gearshift-tokens", "key": "event-key", "optional": True}
    container = {
        "name": GATEWAY,
        **image(options),
        "command": ["python", "-m", "inference_graph.gateway"],
        "args": [
            *(f"--rung={rung}={target}" for rung, target in targets.items()),
            f"--policy={MODELS}/{POLICY_FILE}",
            "--tokens=/etc/gearshift/tokens.jsonl",
            f"{LOG_ARGUMENT}{options.log_url}",
            "--host=0.0.0.0",
            f"--port={GATEWAY_PORT}",
            *(f"--{name}={value}" for name, value in options.changed.items()),
        ],
        "env": [
            # A log in a bucket keeps its journal below this, on the claim too.
            {"name": "XDG_STATE_HOME", "value": f"{LOG_FOLDER}/state"},
            {"name": "GEARSHIFT_EVENT_KEY", "valueFrom": {"secretKeyRef": event_key}},
            *({"name": name, "value": value} for name, value in ONE_ALLOCATOR.items()),
            audit_variable(),
            *trust_variables(options),
        ],
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"}],
        **probes("/healthz", "/readyz", GATEWAY_PORT),
        **draining(GATEWAY_DRAIN_SECONDS),
        "resources": resources("2", "3Gi" if in_process else "1Gi"),
        "securityContext": confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            *(
                {"name": "models", "mountPath": path, "subPath": folder, "readOnly": True}
                for path, folder in folders.items()
            ),
            {"name": "tokens", "mountPath": "/etc/gearshift", "readOnly": True},
            {"name": "log", "mountPath": LOG_FOLDER},
            *trust_mounts(options),
        ],
    }
    models = {"claimName": options.claim, "readOnly": True}
    volumes = (
        {"name": "models", "persistentVolumeClaim": models},
        {"name": "tokens", "secret": {"secretName": "gearshift-tokens"}},
        *trust_volumes(options),
    )
    return pod(GATEWAY, [container], volumes, **grace(GATEWAY_DRAIN_SECONDS))


def audit_variable() -> Document:
    """Where the audit log is: one on the first gateway's claim, for all that mount it.

    A second gateway has a claim, and so a log, of its own.
    """
    return {"name": AUDIT, "value": f"{LOG_FOLDER}/{AUDIT_FILE}"}


def beside_the_log() -> Document:
    """Affinity of a pod that mounts the first gateway's claim: one node can mount it."""
    term = {
        "labelSelector": {"matchLabels": FIRST_GATEWAY},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def log_volume(read_only: bool = False) -> Document:
    """The first gateway's folder, for a pod beside it."""
    claim: Document = {"claimName": LOG_CLAIM}
    if read_only:
        claim["readOnly"] = True
    return {"name": "log", "persistentVolumeClaim": claim}


def accounts(*names: str) -> list[Document]:
    """ServiceAccounts, which tell workloads apart for a mesh and a cloud; none uses the API."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name},
            "automountServiceAccountToken": False,
        }
        for name in names
    ]


def namespace(options: ManifestOptions) -> Document:
    """The namespace, which admits confined pods only."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": options.namespace,
            # Pods that KServe makes carry its own containers, so these are told of, not refused.
            "labels": {
                "pod-security.kubernetes.io/enforce": "baseline",
                "pod-security.kubernetes.io/warn": "restricted",
                "pod-security.kubernetes.io/audit": "restricted",
            },
        },
    }
