"""The dashboard as a Deployment: it reads, and whoever reaches it sees the frames in the log."""

from __future__ import annotations

from typing import Any

from inference_graph.control.manifests.gateway import (
    LOG_FOLDER,
    accounts,
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
    probes,
    resources,
    service,
)

DASHBOARD, DASHBOARD_PORT = "dashboard", 8602
LOG_ARGUMENT = "--log="


def dashboard_files(options: ManifestOptions, policies: list[Document]) -> dict[str, list[Any]]:
    """The component ``dashboard``, by file name.

    Args:
        options: what differs between clusters.
        policies: what may reach it, and what it may reach.
    """
    documents = [
        *accounts(DASHBOARD),
        _deployment(options),
        service(DASHBOARD, 80, DASHBOARD_PORT),
        *policies,
    ]
    return {
        "components/dashboard/dashboard.yaml": documents,
        **component("dashboard", options, resources=["dashboard.yaml"]),
    }


def _deployment(options: ManifestOptions) -> Document:
    token = {"name": "gearshift-scrape", "key": "token", "optional": True}
    container = {
        "name": DASHBOARD,
        **image(options, "dashboard"),
        "command": ["gearshift", "dashboard"],
        "args": [
            f"{LOG_ARGUMENT}{options.log_url}",
            f"--drift={LOG_FOLDER}/drift",
            f"--feedback={LOG_FOLDER}/feedback",
            "--runs=/tmp/runs",
            "--tracking-uri=http://mlflow:5000",
            "--gateway-url=http://gateway",
            "--host=0.0.0.0",
            f"--port={DASHBOARD_PORT}",
            # Its NetworkPolicy lets nobody in; an ingress that asks for a login is let in by its
            # overlay, and `kubectl port-forward` asks the cluster's own.
            "--open-access",
        ],
        "env": [{"name": "GEARSHIFT_TOKEN", "valueFrom": {"secretKeyRef": token}}],
        "ports": [{"name": "http", "containerPort": DASHBOARD_PORT, "protocol": "TCP"}],
        **probes("/", "/", DASHBOARD_PORT),
        "resources": resources("500m", "2Gi"),
        "securityContext": confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "log", "mountPath": LOG_FOLDER, "readOnly": True},
        ],
    }
    return deployment(
        DASHBOARD, pod(DASHBOARD, [container], [log_volume()], affinity=beside_the_log())
    )
