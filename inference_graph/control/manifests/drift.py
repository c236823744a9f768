"""The drift check as a plain CronJob, for clusters without Kubeflow Pipelines."""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests.gateway import (
    LOG_FOLDER,
    accounts,
    beside_the_log,
    log_volume,
)
from inference_graph.control.manifests.parts import (
    MODELS,
    Document,
    ManifestOptions,
    confined,
    image,
    pod,
    resources,
)

DRIFT = "drift-check"
EVERY_SIX_HOURS = "23 */6 * * *"
"""Past the full hour: the log's parts are rolled on it."""


def drift_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """Documents by file name below the folder of the manifests: a component of its own.

    Args:
        options: what differs between clusters.
    """
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "namespace": options.namespace,
        "resources": ["account.yaml", "cronjob.yaml"],
    }
    return {
        "drift/account.yaml": accounts(DRIFT),
        "drift/cronjob.yaml": [cron_job(options)],
        "drift/kustomization.yaml": [kustomization],
    }


def cron_job(options: ManifestOptions) -> Document:
    """Four checks a day, one at a time; state and report stand beside the log."""
    container = {
        "name": DRIFT,
        # The image of the pipelines' steps: comparing takes libraries that serving does without.
        **image(options, "python"),
        "command": ["gearshift", "drift", "check"],
        "args": [
            f"--log={options.log_url}",
            f"--reference={MODELS}/reference.parquet",
            "--hours=6",
            f"--out={LOG_FOLDER}/drift",
            "--json",
        ],
        "resources": resources("1", "4Gi"),
        "securityContext": confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "models", "mountPath": MODELS, "subPath": "policy", "readOnly": True},
            {"name": "log", "mountPath": LOG_FOLDER},
        ],
    }
    models = {"claimName": options.claim, "readOnly": True}
    template = pod(
        DRIFT,
        [container],
        [{"name": "models", "persistentVolumeClaim": models}, log_volume()],
        affinity=beside_the_log(),
        restartPolicy="Never",
    )
    labels = {"app": DRIFT}
    job = {
        "backoffLimit": 1,
        "activeDeadlineSeconds": 3600,
        "ttlSecondsAfterFinished": 7 * 24 * 3600,
        "template": {"metadata": {"labels": labels}, "spec": template},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": DRIFT, "labels": dict(labels)},
        "spec": {
            "schedule": EVERY_SIX_HOURS,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 4,
            "failedJobsHistoryLimit": 4,
            "jobTemplate": {"spec": job},
        },
    }
