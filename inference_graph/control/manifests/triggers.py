"""``triggers.yaml`` on a cluster: the gateway takes requests and alerts, a pod weighs the rules."""

from __future__ import annotations

from typing import Any

import yaml

from inference_graph.control.manifests.gateway import (
    GATEWAY,
    LOG_FOLDER,
    accounts,
    audit_variable,
    beside_the_log,
    log_volume,
)
from inference_graph.control.manifests.parts import (
    Document,
    ManifestOptions,
    component,
    confined,
    deployment,
    image,
    pod,
    resources,
)

TRIGGERS, CONFIG_MAP = "triggers", "gearshift-triggers"
PIPELINES = "pipelines.kubeflow.org"
"""Group of Kubeflow Pipelines' rights, and audience of tokens for its API."""
_FOLDER, FILE = "/etc/gearshift-triggers", "triggers.yaml"
_TOKEN_FOLDER = "/var/run/secrets/kubeflow/pipelines"


def triggers_files(options: ManifestOptions, policies: list[Document]) -> dict[str, list[Any]]:
    """The component ``triggers``, by file name.

    Args:
        options: what differs between clusters.
        policies: what its pod and the gateway may reach because of it.
    """
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP},
        "data": {FILE: triggers_text(options, options.log_url)},
    }
    container = "/spec/template/spec/containers/0"
    patch: list[Document] = [
        {"op": "add", "path": f"{container}/args/-", "value": f"--triggers={_FOLDER}/{FILE}"},
        *(
            {"op": "add", "path": f"{container}/volumeMounts/-", "value": mount}
            for mount in _mounts()
        ),
        *(
            {"op": "add", "path": "/spec/template/spec/volumes/-", "value": volume}
            for volume in _volumes()
        ),
    ]
    target = {"kind": "StatefulSet", "name": GATEWAY}
    return {
        "components/triggers/triggers.yaml": [
            *accounts(TRIGGERS),
            config_map,
            _deployment(options),
            *policies,
        ],
        "components/triggers/gateway.yaml": [patch],
        **component(
            "triggers",
            options,
            resources=["triggers.yaml"],
            patches=[{"path": "gateway.yaml", "target": target}],
        ),
    }


def triggers_text(options: ManifestOptions, log_url: str) -> str:
    """``triggers.yaml``: rules that need nothing but what the manifests install.

    Args:
        options: what differs between clusters.
        log_url: the prediction log, as the pods of a run on Kubeflow reach it.
    """
    parameters = {
        "log": log_url,
        "reference": options.pipeline_reference,
        "champion": options.pipeline_champion,
    }
    content = {
        "drift": f"{LOG_FOLDER}/drift",
        "feedback": f"{LOG_FOLDER}/feedback/decisions.jsonl",
        "state": f"{LOG_FOLDER}/triggers",
        "limits": {"cooldown_hours": 6, "per_day": 2, "timeout_hours": 12},
        "launch": {
            "kubeflow": {
                "url": options.kubeflow_url,
                "pipeline_id": options.pipeline_id,
                # Where Kubeflow serves several users, a run is of its experiment's namespace.
                "namespace": options.kubeflow_namespace,
                "experiment": options.kubeflow_experiment,
                "parameters": {name: value for name, value in parameters.items() if value},
                "token_file": f"{_TOKEN_FOLDER}/token",
            }
        },
        "rules": [
            {"name": "accuracy", "when": "accuracy", "retained_below": 0.93},
            {"name": "drift", "when": "drift"},
            {"name": "told by Prometheus", "when": "alert", "alerts": ["GearshiftAccuracyLow"]},
        ],
    }
    return yaml.safe_dump(content, sort_keys=False, width=100)


def _deployment(options: ManifestOptions) -> Document:
    container = {
        "name": TRIGGERS,
        **image(options, "python"),
        "command": ["gearshift", "triggers", "run"],
        "args": [f"{_FOLDER}/{FILE}", f"--log={options.log_url}", "--every-seconds=300", "--json"],
        "env": [audit_variable()],
        "resources": resources("100m", "1Gi"),
        "securityContext": confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "log", "mountPath": LOG_FOLDER},
            *_mounts(),
        ],
    }
    spec = pod(TRIGGERS, [container], [log_volume(), *_volumes()], affinity=beside_the_log())
    return deployment(TRIGGERS, spec, strategy={"type": "Recreate"})


def _mounts() -> tuple[Document, ...]:
    return (
        {"name": "triggers", "mountPath": _FOLDER, "readOnly": True},
        {"name": "kubeflow", "mountPath": _TOKEN_FOLDER, "readOnly": True},
    )


def _volumes() -> tuple[Document, ...]:
    token = {"audience": PIPELINES, "expirationSeconds": 7200, "path": "token"}
    return (
        {"name": "triggers", "configMap": {"name": CONFIG_MAP}},
        # A token for Kubeflow Pipelines alone; the cluster's own API refuses it.
        {"name": "kubeflow", "projected": {"sources": [{"serviceAccountToken": token}]}},
    )
