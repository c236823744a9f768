"""The weights of a rung at another input size, without the checkpoint that they came from.

A fully convolutional network takes any size; what fixes it in an export is the input's declared
shape and the constants that count its anchors: their centres, their strides, and two shapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from components.ladder.export import RungExportSummary
from components.ladder.input_size import check_input_size
from foundation.errors import ModelError
from foundation.storage import atomic_path, sha256_file
from inference_graph.contract import DETECTOR_INPUT, DETECTOR_OUTPUT, IMAGE_SIZE_KEY
from inference_graph.detector import Detector, DetectorConfig

_STRIDES = (8, 16, 32)


def resize_rung(weights: Path, out: Path, rung: str, height: int, width: int) -> RungExportSummary:
    """Write a rung with another input size.

    Args:
        weights: ONNX file as :func:`components.ladder.export.export_rung` makes it.
        out: the ``.onnx`` to write.
        rung: its place in the ladder.
        height: rows of the network's input, a multiple of 32.
        width: columns of the network's input, a multiple of 32.

    Raises:
        ConfigurationError: the size does not suit the network.
        ModelError: the file is no such export.
        StorageError: the disk is full.
    """
    check_input_size(height, width)
    before = Detector(DetectorConfig(weights, rung))
    model = onnx.load(str(weights))
    _set_anchors(model, weights, before.input_size, (height, width))
    for tensor, shape in (
        (model.graph.input[0], (1, 3, height, width)),
        (model.graph.output[0], (1, 4 + len(before.class_names), _count(height, width))),
    ):
        kind = tensor.type.tensor_type.elem_type
        tensor.CopyFrom(helper.make_tensor_value_info(tensor.name, kind, shape))
    notes = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, notes | {IMAGE_SIZE_KEY: str([height, width])})
    with atomic_path(out) as partial:
        onnx.save(model, str(partial))
        Detector(DetectorConfig(partial, rung))  # it runs, or it does not appear
    return RungExportSummary(
        out.stat().st_size, sha256_file(out), before.class_names, before.category_ids
    )


def anchors(height: int, width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Centres of the anchors in units of their stride, and the strides.

    Returns:
        float32 [1, 2, n], x then y, and float32 [1, n]; n is the sum over the strides 8, 16, 32 of
        the cells of a grid of that pitch, row by row.
    """
    centres, strides = [], []
    for stride in _STRIDES:
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) + np.float32(0.5)
        centres.append(np.stack((x, y)))
        strides.append(np.full(rows * columns, stride))
    return (
        np.concatenate(centres, axis=1)[np.newaxis].astype(np.float32),
        np.concatenate(strides)[np.newaxis].astype(np.float32),
    )


def _count(height: int, width: int) -> int:
    return sum((height // stride) * (width // stride) for stride in _STRIDES)


def _set_anchors(
    model: onnx.ModelProto, weights: Path, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """Replace every constant that counts anchors, and refuse a graph that has others."""
    graph = model.graph
    old, new = anchors(*before), anchors(*after)
    count = _count(*before)
    found = set()
    for node in graph.node:
        if node.op_type != "Constant" or node.attribute[0].name != "value":
            continue
        value: Any = numpy_helper.to_array(node.attribute[0].t)
        for kind, (was, will) in enumerate(zip(old, new, strict=True)):
            if value.shape == was.shape and np.array_equal(value, was):
                found.add(kind)
                value = will
        if value.dtype == np.int64 and count in value.ravel():
            value = np.where(value == count, _count(*after), value)
        node.attribute[0].t.CopyFrom(numpy_helper.from_array(value, node.attribute[0].t.name))
    names = ([one.name for one in graph.input], [one.name for one in graph.output])
    if found != {0, 1} or names != ([DETECTOR_INPUT], [DETECTOR_OUTPUT]):
        raise ModelError(
            f"{weights} does not hold its anchors as an Ultralytics export of a fixed size does; "
            "export the checkpoint at the size you want"
        )
