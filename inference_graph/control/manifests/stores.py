"""PostgreSQL and an S3-compatible store in the cluster, for where no cloud offers them.

One replica each: simple to back up and to understand. Who has an operator for either leaves this
component out and names its own in the Secrets.
"""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests.gateway import accounts
from inference_graph.control.manifests.mlflow import SECRET
from inference_graph.control.manifests.parts import (
    S3_SECRET,
    Document,
    ManifestOptions,
    claim_template,
    component,
    confined,
    in_registry,
    pod,
    resources,
    service,
)

DATABASE, DATABASE_PORT = "postgres", 5432
OBJECTS, OBJECTS_PORT = "objects", 8333
_DATABASE_IMAGE = (
    "docker.io/library/postgres:17.10-bookworm"
    "@sha256:9b18b78397054fce88a9552e9d5a3ad5bb7fd258c5b3cc1c5028e46373d6ea8f"
)
_OBJECTS_IMAGE = (
    "docker.io/chrislusf/seaweedfs:4.47"
    "@sha256:ce9e796f1fe6f06968f4c04bdaf8f678dad9c8acdfef3d244133d71bfa6bf882"
)
"""SeaweedFS, which Kubeflow Pipelines brings too since MinIO's images ended."""
_POSTGRES_USER = 999
"""Who owns the data in PostgreSQL's own image."""


def stores_files(options: ManifestOptions, policies: list[Document]) -> dict[str, list[Any]]:
    """The component ``stores``, by file name.

    Args:
        options: what differs between clusters.
        policies: what may reach them.
    """
    documents = [
        *accounts(DATABASE, OBJECTS),
        _database(options),
        service(DATABASE, DATABASE_PORT, DATABASE_PORT, clusterIP="None"),
        _objects(options),
        service(OBJECTS, OBJECTS_PORT, OBJECTS_PORT),
        *policies,
    ]
    return {
        "components/stores/stores.yaml": documents,
        **component("stores", options, resources=["stores.yaml"]),
    }


def _database(options: ManifestOptions) -> Document:
    folder = "/var/lib/postgresql/data"
    ready = {"command": ["pg_isready", "--host=127.0.0.1", "--username=mlflow"]}
    container = {
        "name": DATABASE,
        "image": in_registry(options, _DATABASE_IMAGE),
        "imagePullPolicy": "IfNotPresent",
        "env": [
            {"name": "POSTGRES_USER", "value": "mlflow"},
            {"name": "POSTGRES_DB", "value": "mlflow"},
            {"name": "POSTGRES_INITDB_ARGS", "value": "--auth-host=scram-sha-256 --data-checksums"},
            {
                "name": "POSTGRES_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "password"}},
            },
            # Below the mount, for a file system may have a lost+found at its top.
            {"name": "PGDATA", "value": f"{folder}/pgdata"},
        ],
        "ports": [{"name": "postgres", "containerPort": DATABASE_PORT, "protocol": "TCP"}],
        "startupProbe": {"exec": ready, "timeoutSeconds": 5, "periodSeconds": 2,
                         "failureThreshold": 60},
        "livenessProbe": {"exec": ready, "timeoutSeconds": 5, "periodSeconds": 20},
        "readinessProbe": {"exec": ready, "timeoutSeconds": 5, "periodSeconds": 5},
        "resources": resources("250m", "512Mi"),
        "securityContext": confined(_POSTGRES_USER),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "run", "mountPath": "/var/run/postgresql"},
            {"name": "data", "mountPath": folder},
        ],
    }  # fmt: skip
    spec = pod(
        DATABASE,
        [container],
        [{"name": "run", "emptyDir": {"sizeLimit": "16Mi"}}],
        # A fast shutdown; a second one would be cut off in the middle of its checkpoint.
        terminationGracePeriodSeconds=120,
    )
    spec["securityContext"]["fsGroup"] = _POSTGRES_USER
    return _stateful(DATABASE, spec, "10Gi")


def _objects(options: ManifestOptions) -> Document:
    look = {"httpGet": {"path": "/status", "port": OBJECTS_PORT}, "timeoutSeconds": 5}
    container = {
        "name": OBJECTS,
        "image": in_registry(options, _OBJECTS_IMAGE),
        "imagePullPolicy": "IfNotPresent",
        "command": ["weed"],
        "args": [
            "-logtostderr=true",
            "server",
            "-dir=/data",
            "-ip=127.0.0.1",  # its parts talk to each other; only S3 is for others
            "-ip.bind=0.0.0.0",
            "-master.volumePreallocate=false",
            "-volume.max=0",
            "-filer",
            "-s3",
            f"-s3.port={OBJECTS_PORT}",
            "-s3.config=/etc/seaweedfs/s3.json",
        ],
        "ports": [{"name": "http", "containerPort": OBJECTS_PORT, "protocol": "TCP"}],
        "startupProbe": {**look, "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**look, "periodSeconds": 20},
        "readinessProbe": {**look, "periodSeconds": 5},
        "resources": resources("250m", "1Gi"),
        "securityContext": confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "data", "mountPath": "/data"},
            {"name": "keys", "mountPath": "/etc/seaweedfs", "readOnly": True},
        ],
    }
    items = [{"key": "s3.json", "path": "s3.json"}]
    keys = {"name": "keys", "secret": {"secretName": S3_SECRET, "items": items}}
    return _stateful(OBJECTS, pod(OBJECTS, [container], [keys]), "50Gi")


def _stateful(name: str, spec: Document, size: str) -> Document:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": spec},
            "volumeClaimTemplates": [claim_template("data", size)],
        },
    }
