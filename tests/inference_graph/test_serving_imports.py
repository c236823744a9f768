from __future__ import annotations

import subprocess
import sys

from processes import environment

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
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    count, threads, *modules = done.stdout.split()
    assert int(count) >= 15
    assert {"cv2", "onnxruntime"} <= set(modules)
    assert not set(FORBIDDEN) & set(modules)
    assert (threads, done.stderr) == ("1", "")  # importing does nothing and prints nothing
