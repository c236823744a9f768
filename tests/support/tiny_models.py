"""What the tests of this folder share; builders that need a folder are fixtures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from feature_transformer.observation import SCHEMA_HASH
from inference_graph.contract import Detections

MakeDetector = Callable[..., Path]
MakePolicy = Callable[..., Path]

NAMES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "bus",
    "truck",
    "traffic light",
    "stop sign",
    "dog",
)
"""Classes of the sample scenes."""


def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    frame = np.full((height, width, 3), 120, np.uint8)
    for _ in range(80):
        x, y = int(generator.integers(0, width)), int(generator.integers(0, height))
        side = int(generator.integers(3, 60))
        colour = tuple(int(part) for part in generator.integers(0, 256, 3))
        cv2.rectangle(frame, (x, y), (x + side, y + side), colour, cv2.FILLED)
        cv2.circle(frame, (x, y), side // 2, colour[::-1], 2)
    return frame


def seen(*rows: tuple[float, ...]) -> Detections:
    """Detections from x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def save_model(graph: onnx.GraphProto, path: Path, notes: Mapping[str, str | None]) -> Path:
    """Store a network with its notes; one of None is left out."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {key: text for key, text in notes.items() if text is not None})
    onnx.save(model, str(path))
    return path


def save_detector(
    path: Path,
    rows: Sequence[Sequence[float]] = (),
    names: Sequence[str] = ("person", "car"),
    size: tuple[int | str, int | str] = (192, 256),
    output: str = "output0",
    notes: Mapping[str, str | None] | None = None,
) -> Path:
    """A detector that answers the same rows for every image.

    A row is centre x, centre y, width, height in input pixels, then one score per class.
    """
    width = 4 + len(names)
    table = np.array(rows, np.float32).reshape(-1, len(rows[0]) if rows else width)
    answer = table.T[np.newaxis] if len(table) else np.zeros((1, width, 1), np.float32)
    nodes = [
        # The image must matter to the graph, or ONNX Runtime drops the input.
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.ascontiguousarray(answer), "answer"),
        ],
    )
    texts: dict[str, str | None] = {"names": str(dict(enumerate(names)))}
    return save_model(graph, path, texts | dict(notes or {}))


def save_policy(
    path: Path,
    weights: np.ndarray,
    bias: Sequence[float] = (0.0, 0.0, 0.0),
    notes: Mapping[str, str | None] | None = None,
) -> Path:
    """A linear policy; ``weights`` float32 [observation, 3], ``bias`` float32 [3]."""
    size = len(weights)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["observations", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["action"], axis=1, keepdims=0),
        ],
        "policy",
        [helper.make_tensor_value_info("observations", TensorProto.FLOAT, ["n", size])],
        [
            helper.make_tensor_value_info("action", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
        ],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(bias, np.float32), "bias"),
        ],
    )
    texts: dict[str, str | None] = {
        "gearshift.schema_hash": SCHEMA_HASH,
        "gearshift.ladder": json.dumps(["nano", "small", "large"]),
        "gearshift.latency_weight": "0.1",
        "gearshift.card": json.dumps({"trained_on": "nothing"}),
    }
    return save_model(graph, path, texts | dict(notes or {}))
