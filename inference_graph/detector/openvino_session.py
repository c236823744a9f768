"""Weights opened by OpenVINO, with as much of ONNX Runtime's session as a detector uses.

OpenVINO comes with the extra ``openvino``. On a CPU that multiplies matrices in bfloat16 it
computes so by itself.
"""

from __future__ import annotations

import importlib
import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.errors import ConfigurationError, ModelError
from inference_graph.operators import DETECTOR_OPERATORS
from inference_graph.sessions import OpenModel, open_model

_REQUESTS = 2
"""Inferences at the same time."""
_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)"}


@dataclass(frozen=True)
class _Node:
    """A tensor's name, type and shape, as ONNX Runtime gives them."""

    name: str
    type: str
    shape: list[int | str]


class OpenVinoSession:
    """A compiled network; :meth:`run` may be called from several threads."""

    def __init__(self, path: Path, data: bytes, threads: int) -> None:
        """Compile the weights for the CPU.

        Args:
            path: their file, for messages.
            data: what it holds; not read again, for what was checked is what shall run.
            threads: threads of one inference.

        Raises:
            ConfigurationError: OpenVINO is not installed.
            ModelError: it cannot compile the weights.
        """
        try:
            openvino: Any = importlib.import_module("openvino")
        except ImportError as error:
            raise ConfigurationError(
                "the provider openvino needs the package openvino; install gearshift[openvino]"
            ) from error
        core = openvino.Core()
        try:
            compiled = core.compile_model(
                core.read_model(data),
                "CPU",
                {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads},
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise ModelError(f"OpenVINO cannot compile {path}: {reason}") from error
        self._inputs = [_node(port) for port in compiled.inputs]
        self._outputs = [_node(port) for port in compiled.outputs]
        # A request holds one inference's memory, so callers at the same time need one each.
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(_REQUESTS):
            self._requests.put(compiled.create_infer_request())

    def get_providers(self) -> list[str]:
        """What computes."""
        return ["OpenVINO"]

    def get_inputs(self) -> list[_Node]:
        """What goes in."""
        return self._inputs

    def get_outputs(self) -> list[_Node]:
        """What comes out."""
        return self._outputs

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, object]
    ) -> list[npt.NDArray[np.float32]]:
        """One inference.

        Raises:
            RuntimeError: OpenVINO fails.
        """
        request = self._requests.get()
        try:
            results = request.infer(dict(inputs))
            # The request's next inference writes over its results.
            return [np.array(results[name]) for name in outputs]
        finally:
            self._requests.put(request)


def open_openvino(
    path: Path, threads: int, sha256: str | None = None, trust: Path | None = None
) -> OpenModel:
    """Load an ONNX file into OpenVINO.

    Raises:
        ModelError: the file is unusable, see :func:`inference_graph.sessions.open_model`, or
            OpenVINO cannot compile it.
        ConfigurationError: OpenVINO is not installed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the weights {path}: {error.strerror}") from error
    # Digest, signature, notes, operators, and no tensors in other files.
    checked = open_model(
        path, 1, sha256=sha256, data=data, trust=trust, operators=DETECTOR_OPERATORS
    )
    session: Any = OpenVinoSession(path, data, threads)
    return OpenModel(checked.path, session, checked.metadata, checked.sha256)


def _node(port: Any) -> _Node:
    shape = [
        f"free_{place}" if side.is_dynamic else int(side.get_length())
        for place, side in enumerate(port.partial_shape)
    ]
    kind = port.element_type.get_type_name()
    return _Node(port.any_name, _TYPES.get(kind, f"tensor({kind})"), shape)
