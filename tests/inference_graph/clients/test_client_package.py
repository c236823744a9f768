"""The client's own package: built as pip builds it, and used where nothing else is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from gateway_samples import Rungs, gateway_settings, jpeg, served

ROOT = Path(__file__).parents[3]
SOURCES = ("clients/python", "inference_graph", "transformers/foundation")

BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
STREAM = """
import asyncio, json, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "numpy", "cv2", "feature_transformer", "fastapi"):
            raise ImportError(name)

sys.meta_path.insert(0, Refused())
from inference_graph.clients.stream import StreamClient, StreamOptions

async def main(url, image):
    options = StreamOptions(classes="car")
    async with StreamClient(url, options=options) as client:
        return [message async for message in client.stream([image] * 3)]

answers = asyncio.run(main(sys.argv[1], open(sys.argv[2], "rb").read()))
import inference_graph
print(json.dumps([inference_graph.__file__, [one["detections"][0]["name"] for one in answers]]))
"""


@pytest.mark.parametrize("page", ["docs/api.md", "docs/tutorials/app-developer.md"])
def test_the_examples_import_what_the_package_has(page: str) -> None:
    project = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / page).read_text(encoding="utf-8")
    imported = re.findall(r"^from (inference_graph\S*) import", text, re.MULTILINE)
    assert imported and set(imported) <= set(project["tool"]["setuptools"]["py-modules"])


def test_the_client_alone_streams_without_numpy_or_torch(rungs: Rungs, tmp_path: Path) -> None:
    for source in SOURCES:
        skipped = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
        shutil.copytree(ROOT / source, tmp_path / source, ignore=skipped)
    project = tmp_path / "clients" / "python"
    built = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=project, capture_output=True, text=True, timeout=280
    )
    assert built.returncode == 0, built.stderr
    installed = tmp_path / "installed"
    with zipfile.ZipFile(project / built.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(installed)
        assert sum(one.file_size for one in wheel.infolist()) < 200_000
    image = tmp_path / "a.jpg"
    image.write_bytes(jpeg())
    with served(gateway_settings(), rungs) as gateway:
        streamed = subprocess.run(
            [sys.executable, "-c", STREAM, gateway.url, image],
            cwd=installed,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=280,
        )
    assert streamed.returncode == 0, streamed.stderr
    place, names = json.loads(streamed.stdout)
    assert Path(place).is_relative_to(installed)
    assert names == ["car"] * 3
