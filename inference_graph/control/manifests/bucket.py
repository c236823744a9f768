"""The log and MLflow's artifacts in a bucket, of Google's or of any S3-compatible store."""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests import dashboard, drift, gateway, mlflow, rollout, triggers
from inference_graph.control.manifests.network import METADATA, PUBLIC, outward
from inference_graph.control.manifests.parts import (
    S3_SECRET,
    Document,
    ManifestOptions,
    component,
    confined,
    resources,
)
from inference_graph.control.manifests.stores import OBJECTS, OBJECTS_PORT

_ENDPOINT = f"{OBJECTS}:{OBJECTS_PORT}"
_REGION = "us-east-1"
_MAKE_BUCKET = """\
import os
import boto3
from botocore.exceptions import ClientError

store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
name = os.environ["BUCKET"]
try:
    store.head_bucket(Bucket=name)
except ClientError as error:
    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
        raise
    store.create_bucket(Bucket=name)
"""
"""Run before MLflow starts, so that installing needs no step of its own; it may run again."""
_READERS = (
    ("StatefulSet", gateway.GATEWAY, gateway.LOG_ARGUMENT),
    ("Deployment", dashboard.DASHBOARD, dashboard.LOG_ARGUMENT),
    ("Deployment", triggers.TRIGGERS, "--log="),
    ("CronJob", drift.DRIFT, "--log="),
    ("Deployment", rollout.ROLLOUT, rollout.LOG_ARGUMENT),
)
"""Who is told where the log is, and by which argument."""


def bucket_files(
    options: ManifestOptions, documents: dict[tuple[str, str], Document]
) -> dict[str, list[Any]]:
    """The components ``bucket-s3`` and ``bucket-gs``, by file name.

    Both need the components dashboard, drift, triggers, rollout and mlflow, whose documents they
    change.

    Args:
        options: what differs between clusters.
        documents: those documents, by kind and name.
    """

    def in_store(endpoint: str) -> str:
        query = f"?endpoint_override={endpoint}&scheme=http&region={_REGION}"
        return f"s3://{options.bucket}/log{query}"

    store, google = in_store(_ENDPOINT), f"gs://{options.bucket}/log"
    # Pods of a run on Kubeflow are of another namespace.
    elsewhere = in_store(f"{OBJECTS}.{options.namespace}.svc:{OBJECTS_PORT}")
    return {
        **_files("s3", options, documents, store, elsewhere, []),
        **_files("gs", options, documents, google, google, _google_policies()),
        **_artifacts_alone(options, documents),
    }


def _artifacts_alone(
    options: ManifestOptions, documents: dict[tuple[str, str], Document]
) -> dict[str, list[Any]]:
    """The component ``artifacts``: MLflow's lie in the cluster's store, the log on its claim."""
    operations = _artifacts_patch(documents["Deployment", mlflow.MLFLOW], options, "s3")
    target = {"kind": "Deployment", "name": mlflow.MLFLOW}
    return {
        "components/artifacts/mlflow.yaml": [operations],
        **component("artifacts", options, patches=[{"path": "mlflow.yaml", "target": target}]),
    }


def _files(
    scheme: str,
    options: ManifestOptions,
    documents: dict[tuple[str, str], Document],
    log_url: str,
    log_elsewhere: str,
    policies: list[Document],
) -> dict[str, list[Any]]:
    name = f"bucket-{scheme}"
    files: dict[str, list[Any]] = {}
    patches = []
    changes = [
        (kind, workload, _log_patch(documents[kind, workload], kind, argument, log_url, scheme))
        for kind, workload, argument in _READERS
    ]
    server = documents["Deployment", mlflow.MLFLOW]
    changes.append(("Deployment", mlflow.MLFLOW, _artifacts_patch(server, options, scheme)))
    text = triggers.triggers_text(options, log_elsewhere)
    rules: list[Document] = [{"op": "replace", "path": f"/data/{triggers.FILE}", "value": text}]
    changes.append(("ConfigMap", triggers.CONFIG_MAP, rules))
    for kind, workload, operations in changes:
        files[f"components/{name}/{workload}.yaml"] = [operations]
        patches.append({"path": f"{workload}.yaml", "target": {"kind": kind, "name": workload}})
    fields: dict[str, Any] = {"patches": patches}
    if policies:
        files[f"components/{name}/network.yaml"] = list(policies)
        fields = {"resources": ["network.yaml"], **fields}
    return files | component(name, options, **fields)


def _log_patch(
    document: Document, kind: str, argument: str, log_url: str, scheme: str
) -> list[Document]:
    path = container_path(kind)
    operations: list[Document] = [
        {
            "op": "replace",
            "path": f"{path}/args/{place(container_of(document, kind), argument)}",
            "value": f"{argument}{log_url}",
        }
    ]
    if scheme == "s3":
        operations.append({"op": "add", "path": f"{path}/envFrom", "value": _keys()})
    if kind == "StatefulSet":
        # The bucket holds the log, so gateways can share it; claims hold what is under way.
        operations.append({"op": "replace", "path": "/spec/replicas", "value": 2})
    return operations


def _artifacts_patch(document: Document, options: ManifestOptions, scheme: str) -> list[Document]:
    container = container_of(document, "Deployment")
    path = container_path("Deployment")
    operations: list[Document] = [
        {
            "op": "replace",
            "path": f"{path}/args/{place(container, mlflow.ARTIFACTS)}",
            "value": f"{mlflow.ARTIFACTS}{scheme}://{options.bucket}/mlflow",
        }
    ]
    if scheme == "s3":
        endpoint = {"name": "MLFLOW_S3_ENDPOINT_URL", "value": f"http://{_ENDPOINT}"}
        region = {"name": "AWS_DEFAULT_REGION", "value": _REGION}
        first = {
            "name": "bucket",
            **{key: container[key] for key in ("image", "imagePullPolicy")},
            "command": ["python", "-c", _MAKE_BUCKET],
            "env": [endpoint, region, {"name": "BUCKET", "value": options.bucket}],
            "envFrom": _keys(),
            "resources": resources("100m", "256Mi"),
            "securityContext": confined(),
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }
        operations += [
            {"op": "add", "path": f"{path}/env/-", "value": endpoint},
            {"op": "add", "path": f"{path}/env/-", "value": region},
            {"op": "add", "path": f"{path}/envFrom", "value": _keys()},
            {"op": "add", "path": "/spec/template/spec/initContainers", "value": [first]},
        ]
    return operations


def _google_policies() -> list[Document]:
    """Google's storage has no fixed addresses, and a pod asks its node for its credentials."""
    found = []
    for name in (*(workload for _, workload, _ in _READERS), mlflow.MLFLOW):
        found.append(outward(f"bucket-{name}", name, (443,), PUBLIC))
        found.append(outward(f"identity-{name}", name, (80, 988), METADATA))
    return found


def container_path(kind: str) -> str:
    """Where the first container of a workload stands, as a JSON pointer."""
    job = "/spec/jobTemplate" if kind == "CronJob" else ""
    return f"{job}/spec/template/spec/containers/0"


def container_of(document: Document, kind: str) -> Document:
    """The first container of a workload."""
    spec = document["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else document["spec"]
    found: Document = spec["template"]["spec"]["containers"][0]
    return found


def place(container: Document, argument: str) -> int:
    """Where an argument stands among a container's."""
    (found,) = (at for at, one in enumerate(container["args"]) if one.startswith(argument))
    return found


def _keys() -> list[Document]:
    return [{"secretRef": {"name": S3_SECRET}}]
