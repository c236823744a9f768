"""``--help`` of every verb answers without importing what only the work needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from test_verb_paths import VERBS

from pipelines.cli.option_binding import configured, kind_of
from pipelines.options import options_of
from pipelines.static_options import read_options

HEAVY = (
    "cv2", "dash", "fastapi", "grpc", "httpx", "kfp", "kserve", "kubernetes", "mlflow", "numpy",
    "onnx", "onnxruntime", "optuna", "pandas", "pyarrow", "scipy", "sqlalchemy",
    "stable_baselines3", "torch", "ultralytics",
)  # fmt: skip
PROGRAM = """
import json, sys
from typer.testing import CliRunner
import gearshift

imported = {}
for words in json.loads(sys.argv[1]):
    before = set(sys.modules)
    done = CliRunner().invoke(gearshift.app, [*words, "--help"])
    assert done.exit_code == 0, (words, done.output)
    found = {name.partition(".")[0] for name in set(sys.modules) - before} & set(sys.argv[2:])
    if found:
        imported[" ".join(words)] = sorted(found)
print(json.dumps(imported))
"""
CLASSES = sorted(
    {place for verb in VERBS.values() if (one := configured(verb)) for place in one.places.values()}
)


def test_no_help_imports_a_framework() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([[], *VERBS]), *HEAVY],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize("place", CLASSES)
def test_options_read_from_source_are_those_of_the_class(place: str) -> None:
    module, _, name = place.partition(":")
    config = getattr(__import__(module, fromlist=[name]), name)
    for read, real in zip(read_options(place), options_of(config), strict=True):
        assert read._replace(annotation=None) == real._replace(annotation=None)
        assert kind_of(read.annotation) == kind_of(real.annotation)
