"""Where a measurement was made: milliseconds mean nothing without it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from components.parallel import worker_count

_LIBRARIES = ("gearshift", "numpy", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless")


def machine_facts() -> dict[str, str | int]:
    """CPU model, cores this process may use and cores in all, architecture, system, Python."""
    return {
        "cpu": _cpu_model(),
        "cores": worker_count(0),
        "cores_in_all": os.cpu_count() or 1,
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def library_versions() -> dict[str, str]:
    """Versions of the libraries a detection goes through, as far as they are installed."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"
