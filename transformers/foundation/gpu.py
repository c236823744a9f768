"""How busy the GPUs are, asked of NVIDIA's driver (NVML); nothing where there is none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from foundation.metrics import GPU_BUSY, GPU_MEMORY, GPU_MEMORY_USED, CallbackCollector

_log = logging.getLogger("gearshift.server")


def watch_gpus(registry: CollectorRegistry) -> bool:
    """Expose the GPUs that this process sees; whether there are any.

    A container sees those it was given. Without a GPU, its driver or the package ``nvidia-ml-py``
    no series appear.
    """
    try:
        import pynvml  # type: ignore[import-untyped]  # ships no types
    except ImportError:
        return False
    return watch_nvml(registry, pynvml)


def watch_nvml(registry: CollectorRegistry, nvml: Any) -> bool:
    """The same with a given module ``pynvml``."""
    try:
        nvml.nvmlInit()
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
        ]
        names = [_text(nvml.nvmlDeviceGetName(handle)) for handle in handles]
    except nvml.NVMLError as error:
        _log.debug("no GPU is watched: %s", error)
        return False

    def read() -> Iterator[Metric]:
        busy: dict[tuple[str, ...], float] = {}
        used: dict[tuple[str, ...], float] = {}
        whole: dict[tuple[str, ...], float] = {}
        for index, (handle, name) in enumerate(zip(handles, names, strict=True)):
            key = (str(index), name)
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                used[key], whole[key] = float(memory.used), float(memory.total)
                busy[key] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            except nvml.NVMLError as error:
                # A part of a GPU (MIG) reports its memory, but no utilisation.
                _log.debug("GPU %d reports less: %s", index, error)
        yield GPU_BUSY.read(busy)
        yield GPU_MEMORY_USED.read(used)
        yield GPU_MEMORY.read(whole)

    if handles:
        registry.register(CallbackCollector(read))
    return bool(handles)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
