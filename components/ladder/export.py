"""From an Ultralytics checkpoint to an ONNX file that serving loads.

Works for the sample ladder and for any Ultralytics detection checkpoint, the official COCO
weights included. Weights are stored as int8 with one scale per output channel and a
``DequantizeLinear`` each, a quarter of the size; ONNX Runtime folds them back to float32 at load
(``session.disable_quant_qdq``), so it computes, and is as fast, as before.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from components.ladder.class_map import ClassMap
from components.ladder.export_check import check_export, refuse_other_networks
from components.ladder.input_size import check_input_size
from components.ultralytics_log import quiet_ultralytics
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, ModelError
from foundation.storage import atomic_path, sha256_file
from inference_graph.coco_categories import COCO_IDS, category_ids
from inference_graph.contract import CATEGORY_IDS_KEY, NAMES_KEY

_SMALLEST_COMPRESSED = 2_048
"""Tensors with fewer weights than this stay float32: they would save nothing."""


@configuration
class ExportConfig:
    """How a checkpoint is exported.

    Attributes:
        height: rows of the network's input, a multiple of 32.
        width: columns of the network's input, a multiple of 32.
        opset: ONNX operator set.
        compress: store the weights as int8 (about a quarter of the size).
    """

    height: int = 192
    width: int = 256
    opset: int = 17
    compress: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigurationError where the network cannot have such an input."""
        check_input_size(self.height, self.width)


@dataclass(frozen=True)
class RungExportSummary:
    """The exported file.

    Attributes:
        bytes: its size.
        sha256: of the file.
        class_names: the classes it knows, in order.
        category_ids: the category of each class; COCO's where COCO has a class of that name.
    """

    bytes: int
    sha256: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    @property
    def outside_coco(self) -> dict[str, int]:
        """Classes that COCO does not have, with the category that each got."""
        pairs = zip(self.class_names, self.category_ids, strict=True)
        return {name: number for name, number in pairs if COCO_IDS.get(name) != number}


def export_rung(
    weights: Path, out: Path, config: ExportConfig, classes: ClassMap | None = None
) -> RungExportSummary:
    """Export a checkpoint to ONNX.

    Args:
        weights: an Ultralytics ``.pt`` of a detection model.
        out: the ``.onnx`` to write.
        config: input size and storage.
        classes: names and categories of classes, where they are not those of the checkpoint and
            of COCO.

    Returns:
        What was written.

    Raises:
        ConfigurationError: ``classes`` does not fit the checkpoint.
        ModelError: the file is no checkpoint of a YOLO that detects with the head that serving
            reads, or what was exported does not serve or answers otherwise.
        StorageError: the disk is full.
    """
    if not weights.is_file():
        raise ModelError(f"{weights} does not exist; give an Ultralytics checkpoint (.pt)")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # an export must not change the environment
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder, quiet_ultralytics():
        # Ultralytics writes beside the checkpoint, where there may be no room or right to.
        copy = Path(folder) / "rung.pt"
        shutil.copyfile(weights, copy)
        try:
            network = YOLO(copy)
            refuse_other_networks(network, weights)
            names = tuple(str(name) for name in network.names.values())
            names, ids = classes.apply(names) if classes else (names, category_ids(names))
            exported = network.export(
                format="onnx",
                imgsz=(config.height, config.width),
                opset=config.opset,
                simplify=False,
                dynamic=False,
                nms=False,
                verbose=False,
            )
            model = onnx.load(str(exported))
        except (ModelError, ConfigurationError):
            raise
        except Exception as error:  # Ultralytics raises whatever its loader meets
            raise ModelError(
                f"{weights} cannot be exported ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else 'no message'}); "
                "give an Ultralytics detection checkpoint (.pt)"
            ) from error
    if config.compress:
        compress_weights(model)
    helper.set_model_props(
        model,
        {entry.key: entry.value for entry in model.metadata_props}
        | {NAMES_KEY: str(dict(enumerate(names))), CATEGORY_IDS_KEY: json.dumps(ids)},
    )
    with atomic_path(out) as partial:
        onnx.save(model, str(partial))
        check_export(partial, network, weights)
    return RungExportSummary(out.stat().st_size, sha256_file(out), names, ids)


def compress_weights(model: onnx.ModelProto) -> int:
    """Store every large convolution kernel as int8 with one scale per output channel, in place.

    ``w ~ scale * q`` with ``q = round(w / scale)`` in -127..127 and ``scale = max |w| / 127`` per
    channel (symmetric quantisation, ONNX operator ``DequantizeLinear``, axis 0).

    Returns:
        The number of tensors that were compressed.
    """
    graph = model.graph
    kept, nodes = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim != 4 or values.size < _SMALLEST_COMPRESSED or values.dtype != np.float32:
            kept.append(tensor)
            continue
        scale = np.abs(values).max(axis=(1, 2, 3)) / np.float32(127)
        scale[scale == 0] = 1.0
        quantised = np.rint(values / scale[:, None, None, None]).clip(-127, 127).astype(np.int8)
        names = [f"{tensor.name}.{part}" for part in ("int8", "scale", "zero")]
        parts = (quantised, scale.astype(np.float32), np.zeros(len(scale), np.int8))
        kept += [
            numpy_helper.from_array(part, name) for part, name in zip(parts, names, strict=True)
        ]
        nodes.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=0))
    nodes_after = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes + nodes_after)
    return len(nodes)
