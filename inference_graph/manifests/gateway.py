"""The streaming gateway beside KServe's services, and the namespace of all."""

from __future__ import annotations

from inference_graph.contract import LADDER
from inference_graph.manifests.parts import (
    GRPC_PORT,
    MODELS,
    POLICY_FILE,
    Document,
    ManifestOptions,
    confined,
    image,
    probes,
    resources,
    scratch,
)

GATEWAY, GATEWAY_PORT = "gateway", 8600
LOG_CLAIM, LOG_FOLDER = "gearshift-log", "/var/lib/gearshift"
"""Where the log and its journal lie, and the claim mounted there."""


def gateway(options: ManifestOptions) -> list[Document]:
    """The streaming gateway: a Deployment, its Service and the claim of its log."""
    rungs = [f"--rung={rung}={rung}-predictor:{GRPC_PORT}" for rung in LADDER]
    labels = {"app": GATEWAY}
    event_key = {"name": "gearshift-tokens", "key": "event-key", "optional": True}
    container = {
        "name": GATEWAY,
        **image(options),
        "command": ["python", "-m", "inference_graph.gateway"],
        "args": [
            *rungs,
            f"--policy={MODELS}/{POLICY_FILE}",
            "--tokens=/etc/gearshift/tokens.jsonl",
            f"--log_url={options.log_url}",
            "--host=0.0.0.0",
            f"--port={GATEWAY_PORT}",
        ],
        "env": [
            # A log in a bucket keeps its journal below this, on the claim too.
            {"name": "XDG_STATE_HOME", "value": f"{LOG_FOLDER}/state"},
            {"name": "GEARSHIFT_EVENT_KEY", "valueFrom": {"secretKeyRef": event_key}},
        ],
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"}],
        **probes("/healthz", "/readyz", GATEWAY_PORT),
        "resources": resources("2", "1Gi"),
        "securityContext": confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "models", "mountPath": MODELS, "subPath": "policy", "readOnly": True},
            {"name": "tokens", "mountPath": "/etc/gearshift", "readOnly": True},
            {"name": "log", "mountPath": LOG_FOLDER},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"fsGroup": 65532},
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [
            scratch(),
            {"name": "models", "persistentVolumeClaim": {"claimName": options.claim,
                                                         "readOnly": True}},
            {"name": "tokens", "secret": {"secretName": "gearshift-tokens"}},
            {"name": "log", "persistentVolumeClaim": {"claimName": LOG_CLAIM}},
        ],
    }  # fmt: skip
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": GATEWAY, "labels": dict(labels)},
        "spec": {
            # One writer holds the claim; with a log in a bucket there may be more.
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GATEWAY, "labels": dict(labels)},
        "spec": {
            "selector": dict(labels),
            "ports": [{"name": "http", "port": 80, "targetPort": GATEWAY_PORT, "protocol": "TCP"}],
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": LOG_CLAIM},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "20Gi"}},
        },
    }
    return [deployment, service, claim]


def namespace(options: ManifestOptions) -> Document:
    """The namespace, which admits confined pods only."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": options.namespace,
            "labels": {"pod-security.kubernetes.io/warn": "restricted"},
        },
    }
