from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("kfp", "mlflow", "pandas", "stable_baselines3", "torch", "ultralytics")

SCRIPT = """
import importlib, pkgutil, sys, threading
import feature_transformer, inference_graph
names = []
for room in (feature_transformer, inference_graph):
    names += [m.name for m in pkgutil.walk_packages(room.__path__, room.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names), threading.active_count(), *sorted({m.split(".")[0] for m in sys.modules}))
"""


def test_the_serving_floors_import_no_training_framework() -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "transformers"), str(ROOT))),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    count, threads, *modules = done.stdout.split()
    assert int(count) >= 15
    assert {"cv2", "onnxruntime"} <= set(modules)
    assert not set(FORBIDDEN) & set(modules)
    assert (threads, done.stderr) == ("1", "")  # importing does nothing and says nothing


def test_the_source_root_is_no_package() -> None:
    # It would shadow Hugging Face's transformers, which alibi-detect imports.
    assert (ROOT / "transformers").is_dir()
    assert not (ROOT / "transformers" / "__init__.py").exists()
    assert not (ROOT / "tests" / "transformers" / "__init__.py").exists()
