"""Every container of every overlay starts with the very command of its manifest.

The gateway of all clusters once ended at once, over a target in a form that only the manifests
used, while a test compared it with the same text.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from container_programs import FOREIGN, Container, containers, files, starter
from overlays import OVERLAYS
from processes import environment
from tiny_models import save_detector, save_policy

from feature_transformer.observation import OBSERVATION_SIZE
from feature_transformer.text_features import TEXT_SCHEMA_HASH
from inference_graph.contract import LADDER
from inference_graph.control.manifests import ManifestOptions, render, write_manifests

ROOT = Path(__file__).resolve().parents[2]


_STARTED: set[str] = set()
"""Commands that another overlay started already; they differ in a few."""


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders that stand for volumes, the one of the models with weights and a policy."""
    root = tmp_path_factory.mktemp("volumes")
    for folder in ("ladder", "policy"):
        (root / "models" / folder).mkdir(parents=True)
    for name in LADDER:
        save_detector(root / "models" / "ladder" / f"{name}.onnx")
    weights = np.zeros((OBSERVATION_SIZE, len(LADDER)), np.float32)
    save_policy(root / "models" / "policy" / "policy.onnx", weights)
    (root / "models" / "policy" / "reference.parquet").touch()
    return root


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_starts(overlay: str, volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for container in containers(overlay, volumes):
        if container.name in FOREIGN:
            assert "@sha256:" in container.image
            continue
        start, arguments = starter(container)
        key = json.dumps([container.command, container.variables])
        if key in _STARTED:
            continue
        with monkeypatch.context() as patched:
            files(container, overlay)
            for name, value in container.variables.items():
                patched.setenv(name, container.local(value))
            try:
                start([container.local(one) for one in arguments], patched)
            except BaseException as error:
                raise AssertionError(f"{container.where} does not start: {error}") from error
        _STARTED.add(key)


@pytest.mark.parametrize("overlay", ["edge", "gke", "kind"])
def test_engines_start_on_the_cpu_in_their_own_image(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tesserocr")
    write_manifests(tmp_path / "deploy", ManifestOptions(task="ocr", registry="registry.example"))
    documents = render(tmp_path / "deploy" / "overlays" / overlay)
    volumes = tmp_path / "volumes"
    ladder, policy = volumes / "models" / "ladder", volumes / "models" / "policy" / "policy.onnx"
    ladder.mkdir(parents=True)
    policy.parent.mkdir()
    for name in LADDER:
        (ladder / f"{name}.json").write_text('{"engine": "tesseract"}')
    weights = np.zeros((OBSERVATION_SIZE, len(LADDER)), np.float32)
    save_policy(policy, weights, notes={"gearshift.schema_hash": TEXT_SCHEMA_HASH})
    serving = [
        one
        for one in containers(overlay, volumes, documents)
        if one.name in {*LADDER, "gateway", "router"}
    ]
    assert {one.image for one in serving} == {"registry.example/gearshift:0.1.0-ocr"}
    started = "gateway" if overlay == "edge" else "nano"
    (found,) = (one for one in serving if one.name == started)
    files(found, overlay)
    start, arguments = starter(found)
    start([found.local(one) for one in arguments], monkeypatch)
    for one in serving:
        if one.name in LADDER:
            assert "--provider=cpu" in one.command
    services = [one for one in documents if one["kind"] == "InferenceService"]
    for one in services:
        if one["metadata"]["name"] in LADDER:
            limits = one["spec"]["predictor"]["model"]["resources"]["limits"]
            assert limits.get("nvidia.com/gpu", "0") == "0"


def test_the_gateway_answers_its_probe(volumes: Path) -> None:
    """As a process, with a free port in place of its own."""
    (found,) = (one for one in containers("kind", volumes) if one.name == "gateway")
    files(found, "kind")
    command = [re.sub(r"^--port=.*", "--port=0", found.local(one)) for one in found.command[1:]]
    variables = {name: found.local(value) for name, value in found.variables.items()}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**environment(), **variables},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        reported = json.loads(process.stdout.readline())
        port = reported["http"].rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        # No server is behind the names of the rungs here, which is no reason to end.
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_its_variables_are_read_by_somebody(overlay: str, volumes: Path) -> None:
    ours = {
        name
        for one in containers(overlay, volumes)
        for name in one.variables
        if name.startswith("GEARSHIFT_")
    }
    rooms = ("inference_graph", "transformers", "pipelines", "components", "dashboards")
    text = "".join(
        path.read_text(encoding="utf-8")
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if "manifests" not in path.parts
    )
    assert [name for name in ours if f'"{name}"' not in text] == []


def test_a_path_on_no_volume_is_seen(volumes: Path) -> None:
    found = Container("Pod a", "a", "b", (), {}, {"/mnt/models": volumes})
    assert found.local("--policy=/mnt/models/a.onnx") == f"--policy={volumes}/a.onnx"
    assert found.local("--rung=nano=dns:///nano-pods:8081") == "--rung=nano=dns:///nano-pods:8081"
    assert found.local("http://mlflow:5000/a") == "http://mlflow:5000/a"
    with pytest.raises(AssertionError, match="/var/log"):
        found.local("--log=/var/log")
