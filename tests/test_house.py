"""The house rules that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONG_FILES: dict[str, str] = {}
"""Files of more than 500 lines, each with its reason."""

# Spelled so that this file does not hold what it looks for.
REGISTRY_HOSTS = re.compile(
    "|".join(("py" + r"pi\.o", "pythonho" + "sted", "np" + r"mjs\.", "deb" + r"\.debian"))
)


def _tracked(*patterns: str) -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=True
    )
    return [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]


@pytest.mark.parametrize("folder", ["transformers", "tests/transformers"])
def test_hugging_faces_package_is_not_shadowed(folder: str) -> None:
    assert (ROOT / "transformers").is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_tracked_file_names_a_registry() -> None:
    texts = [path for path in _tracked() if path.suffix not in (".onnx", ".png", ".jpg", ".mp4")]
    found = [
        str(path.relative_to(ROOT))
        for path in texts
        if path.is_file() and REGISTRY_HOSTS.search(path.read_text("utf-8", errors="replace"))
    ]
    assert found == []


def test_the_pattern_for_registries_finds_one() -> None:
    assert REGISTRY_HOSTS.search("https://files." + "pythonho" + "sted.org/x")


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in _tracked("*.py")
        if path.is_file() and "tests" not in path.relative_to(ROOT).parts
    }
    long = {name: lines for name, lines in lengths.items() if lines > 500}
    assert set(long) == set(LONG_FILES), long


def test_few_lines_skip_the_formatter() -> None:
    skip = "# fmt: " + "skip"
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _tracked("*.py")
        if path.is_file()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if line.endswith(skip)
    ]
    assert len(places) <= 20, places


def test_a_class_name_stands_for_one_class() -> None:
    places = defaultdict(set)
    for path in _tracked("*.py"):
        name = path.relative_to(ROOT)
        if path.is_file() and name.parts[0] not in ("tests", "images"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].add(f"{name}:{node.lineno}")
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert not shared, shared


def test_images_are_decoded_in_one_place_only() -> None:
    decoders = re.compile(
        r"\b(imdecode|imread|imdecodemulti|imreadmulti|PIL|imageio|decode_jpeg)\b"
    )
    users = {
        str(path.relative_to(ROOT))
        for path in _tracked("*.py")
        if path.is_file()
        and "tests" not in path.relative_to(ROOT).parts
        and decoders.search(path.read_text("utf-8"))
    }
    # Pictures that the project makes itself, and bare decoding that ours is compared with.
    own = {
        "components/bench/data_speed.py",
        "components/tasks/ocr/documents.py",
        "pipelines/documentation/pictures.py",
    }
    assert users == {"transformers/feature_transformer/decoding/worker.py"} | own


def test_the_makefile_stays_small() -> None:
    targets = re.findall(r"^[a-z][\w-]*:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {"demo:", "test:", "check:"} <= set(targets)
    assert len(targets) <= 10


def test_the_installed_packages_are_found_from_anywhere(tmp_path: Path) -> None:
    code = (
        "import components, dashboards, feature_transformer, gearshift, inference_graph, pipelines"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
