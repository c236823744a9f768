"""Versions of what a cache key cannot see: the installed code, a folder's content, the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from components.data.versions import pinned_source
from components.profiling.machine import library_versions, machine_facts
from foundation.storage import sha256_file

_ROOT = Path(__file__).resolve().parents[1]
_CODE = (
    "components/**/*.py",
    "inference_graph/*.py",
    "inference_graph/detector/*.py",
    "inference_graph/gateway/routing.py",
    "inference_graph/prediction_log/*.py",
    "inference_graph/router/*.py",
    "inference_graph/tasks/**/*.py",
    "transformers/feature_transformer/**/*.py",
    # What a step itself runs of this floor; the rest only starts and shows it.
    "pipelines/data/steps.py",
    "pipelines/training/data_steps.py",
    "pipelines/ladder_files.py",
    "pipelines/options.py",
    "pipelines/training/policy_steps.py",
    "pipelines/reporting.py",
)
_LIBRARIES = ("faster-coco-eval", "kfp", "mlflow", "onnx", "pandas", "stable-baselines3", "torch")
_DIGITS = 16


def code_version() -> str:
    """Hash of the code that steps run, of the libraries it stands on, and of the machine.

    The machine belongs to it: a latency measured on another one is another number.
    """
    digest = hashlib.sha256()
    for pattern in _CODE:
        for file in sorted(_ROOT.glob(pattern)):
            digest.update(f"{file.relative_to(_ROOT)} {sha256_file(file)}\n".encode())
    facts = {**machine_facts(), **library_versions(), **_versions(_LIBRARIES)}
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:_DIGITS]


def data_version(source: str) -> str:
    """Hash of the names, sizes and times of the files of a folder or of one file.

    A stored version is named by its id. A URL stands for itself: what it holds is unknown before
    it is read. So does an empty source (the sample scenes, whose options are in the cache key), and
    one that does not exist, which ingest then reports.
    """
    path = Path(source).expanduser()
    if not source or "://" in source or not path.exists():
        return pinned_source(source)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            facts = file.stat()
            name = file.relative_to(path).as_posix()
            digest.update(f"{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def ladder_version(files: Mapping[str, Path]) -> str:
    """Hash of the rungs' weights."""
    digests = "".join(sha256_file(file) for file in files.values())
    return hashlib.sha256(digests.encode()).hexdigest()[:_DIGITS]


def _versions(libraries: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
