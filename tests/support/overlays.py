"""Every overlay of the committed manifests, rendered once, and what tests ask of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from inference_graph.control.manifests import render

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
OVERLAYS = tuple(
    sorted(path.name for path in (MANIFESTS / "overlays").iterdir() if path.name != "seldon")
)
"""Those of KServe and of one node; tests/manifests/test_seldon.py has Seldon's."""
Documents = list[dict[str, Any]]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job")


def kustomized(overlay: Path) -> str:
    """The YAML that kubectl renders of an overlay; skips the test without kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    command = [kubectl, "kustomize", str(overlay)]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=120).stdout


@cache
def _rendered(overlay: str) -> Documents:
    return render(MANIFESTS / "overlays" / overlay)


def rendered(overlay: str) -> Documents:
    """Its documents; shared, so they are looked at only."""
    return _rendered(overlay)


def named(documents: Documents, kind: str) -> dict[str, dict[str, Any]]:
    """The documents of a kind, by name."""
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def pods(documents: Documents) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that these documents make, with where it stands: the whole pod's spec.

    KServe makes a predictor's pod of its own fields and its runtime's; that is put together here
    as far as confinement goes.
    """
    runtimes = named(documents, "ServingRuntime")
    for one in documents:
        where = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] in WORKLOADS:
            spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
            yield where, spec["template"]["spec"]
        elif one["kind"] == "InferenceService":
            for part, spec in one["spec"].items():
                if "model" in spec:
                    runtime = runtimes[spec["model"]["runtime"]]["spec"]
                    (container,) = runtime["containers"]
                    merged = {**container, "resources": spec["model"]["resources"]}
                    spec = {**runtime, **spec, "containers": [merged]}
                yield f"{where} {part}", spec
