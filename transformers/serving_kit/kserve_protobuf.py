"""KServe's generated messages of the Open Inference Protocol, without the rest of KServe.

``import kserve`` takes 4 s and 200 MB, for its ``__init__`` imports all of it. The generated file
needs protobuf alone, so it is loaded from where it lies. In a process that imports KServe as well,
both are built from the same descriptor.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_NAME = "grpc_predict_v2_pb2"


def _generated() -> ModuleType:
    package = importlib.util.find_spec("kserve")  # finds it without importing it
    if package is None or package.origin is None:
        raise ModuleNotFoundError("kserve is not installed; pip install kserve")
    path = Path(package.origin).parent / "protocol" / "grpc" / f"{_NAME}.py"
    spec = importlib.util.spec_from_file_location(f"{__name__}.{_NAME}", path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{path} cannot be loaded; install kserve anew")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


messages = _generated()
"""``ModelInferRequest``, ``ModelInferResponse``, ``ModelReadyRequest``, ..."""
