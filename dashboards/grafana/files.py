"""The files: dashboards, Grafana's provisioning, and a kustomize component with a ConfigMap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dashboards.grafana.panels import GrafanaDashboard, page_json
from dashboards.grafana.routing import routing_page
from dashboards.grafana.services import services_page
from foundation.storage import atomic_path
from inference_graph.control.monitoring.objectives import Objectives

_HEADER = "# Written by `python -m dashboards.grafana`; change it there.\n"
_SIDECAR = {"grafana_dashboard": "1"}
"""The label by which Grafana's sidecar finds ConfigMaps (the chart's default)."""
_MOUNTED = "/var/lib/grafana/dashboards/gearshift"
URL_VARIABLE = "GEARSHIFT_PROMETHEUS_URL"
"""Environment variable of Grafana with Prometheus' address, for provisioning."""


def pages(objectives: Objectives) -> tuple[GrafanaDashboard, ...]:
    """All dashboards."""
    return routing_page(objectives), services_page()


def grafana_files(objectives: Objectives) -> dict[str, str]:
    """The text of every file, by its path below the folder."""
    dashboards = {f"{page.uid}.json": page_json(page) for page in pages(objectives)}
    source = {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": "gearshift-prometheus",
                "type": "prometheus",
                "access": "proxy",
                "url": f"${URL_VARIABLE}",
                "isDefault": True,
            }
        ],
    }
    provider = {
        "apiVersion": 1,
        "providers": [
            {
                "name": "gearshift",
                "folder": "Gearshift",
                "type": "file",
                "allowUiUpdates": False,
                "options": {"path": _MOUNTED},
            }
        ],
    }
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "configMapGenerator": [
            {
                "name": "gearshift-dashboards",
                "files": list(dashboards),
                "options": {"disableNameSuffixHash": True, "labels": dict(_SIDECAR)},
            }
        ],
    }
    return {
        **dashboards,
        "provisioning/datasources/prometheus.yaml": _yaml(source),
        "provisioning/dashboards/gearshift.yaml": _yaml(provider),
        "kustomization.yaml": _yaml(component),
    }


def write_grafana(out: Path, objectives: Objectives | None = None) -> list[Path]:
    """Write all files below a folder.

    Args:
        out: the folder.
        objectives: from which thresholds come; the project's own without it.

    Raises:
        StorageError: the folder cannot be written.
    """
    written = []
    for name, text in grafana_files(objectives or Objectives()).items():
        with atomic_path(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
        written.append(out / name)
    return written


def _yaml(document: dict[str, Any]) -> str:
    return _HEADER + yaml.safe_dump(document, sort_keys=False)
