"""MLflow's server: runs and registered policies in PostgreSQL, artifacts in a bucket."""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests.gateway import accounts
from inference_graph.control.manifests.parts import (
    Document,
    ManifestOptions,
    component,
    confined,
    deployment,
    image,
    pod,
    probes,
    resources,
    service,
)

MLFLOW, MLFLOW_PORT = "mlflow", 5000
SECRET = "gearshift-mlflow"
"""Secret with the key ``backend-store-uri``: postgresql://NAME:PASSWORD@HOST/DATABASE."""
ARTIFACTS = "--artifacts-destination="


def mlflow_files(options: ManifestOptions, policies: list[Document]) -> dict[str, list[Any]]:
    """The component ``mlflow``, by file name; where artifacts lie is another component's affair.

    Args:
        options: what differs between clusters.
        policies: what may reach it, and what it may reach.
    """
    documents = [
        *accounts(MLFLOW),
        _deployment(options),
        service(MLFLOW, MLFLOW_PORT, MLFLOW_PORT),
        *policies,
    ]
    return {
        "components/mlflow/mlflow.yaml": documents,
        **component("mlflow", options, resources=["mlflow.yaml"]),
    }


def _deployment(options: ManifestOptions) -> Document:
    names = [f"{MLFLOW}{end}:{MLFLOW_PORT}" for end in _ends(options)]
    container = {
        "name": MLFLOW,
        **image(options, "mlflow"),
        "command": ["mlflow", "server"],
        "args": [
            "--host=0.0.0.0",
            f"--port={MLFLOW_PORT}",
            "--workers=2",
            "--serve-artifacts",
            f"{ARTIFACTS}/tmp/artifacts",
            # A page elsewhere must not make a browser ask this server under another name.
            f"--allowed-hosts={','.join([*names, 'localhost:*'])}",
        ],
        "env": [
            {
                "name": "MLFLOW_BACKEND_STORE_URI",
                "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "backend-store-uri"}},
            },
        ],
        "ports": [{"name": "http", "containerPort": MLFLOW_PORT, "protocol": "TCP"}],
        **probes("/health", "/health", MLFLOW_PORT),
        "resources": resources("500m", "2Gi"),
        "securityContext": confined(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    # A new version migrates the database; two versions must not share it.
    return deployment(MLFLOW, pod(MLFLOW, [container], []), strategy={"type": "Recreate"})


def _ends(options: ManifestOptions) -> tuple[str, ...]:
    """What may stand behind the Service's name."""
    return "", f".{options.namespace}", f".{options.namespace}.svc"
