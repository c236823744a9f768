"""Small COCO folders and detectors whose answers can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]


def write_image(
    file: Path, width: int = 64, height: int = 48, seed: int = 0, colour: Any = None
) -> None:
    """Write a picture of noise, or of one BGR colour."""
    if colour is None:
        frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    else:
        frame = np.full((height, width, 3), colour, dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), frame)


def coco(images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]) -> Any:
    return {
        "images": [dict(image) for image in images],
        "annotations": [dict(annotation) for annotation in annotations],
        "categories": [dict(category) for category in CATEGORIES],
    }


def image_record(number: int, **more: Any) -> dict[str, Any]:
    name = f"{number:03d}.png"
    return {"id": number, "file_name": name, "width": 64, "height": 48, **more}


def box_record(number: int, image_id: int, box: Sequence[float], **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": 1, "bbox": list(box), **more}


def write_folder(root: Path, payload: Any, name: str = "annotations/instances_all.json") -> Path:
    """Write annotations, and a picture of noise for every image record (into ``all/``)."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(payload))
    for image in payload["images"]:
        write_image(root / "all" / image["file_name"], seed=image["id"])
    return root


def sample_payload(count: int = 4) -> Any:
    """``count`` images of 64x48; image i (from 1) has i boxes of 8x6, side by side."""
    images = [image_record(number) for number in range(1, count + 1)]
    boxes = [
        box_record(100 * number + k, number, [4.0 * k, 2.0 * k, 8.0, 6.0], area=40.0)
        for number in range(1, count + 1)
        for k in range(number)
    ]
    return coco(images, boxes)


def write_canonical(
    root: Path, images: Sequence[Mapping[str, Any]], boxes: Sequence[Mapping[str, Any]]
) -> Path:
    """Write a canonical data set folder; pictures that are there already are kept."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.json").write_text(json.dumps(coco(images, boxes)))
    for image in images:
        file = root / "images" / image["file_name"]
        if not file.exists():
            write_image(file, image["width"], image["height"], seed=image["id"])
    return root


def write_detector(
    file: Path,
    box: Sequence[float] = (32, 32, 16, 8),
    gain: float = 1.0,
    names: Sequence[str] = ("person", "car", "dog"),
    work: int = 0,
) -> Path:
    """Write an ONNX detector of 64x64 input with a single anchor.

    Its box is always ``box`` (centre x, y, width, height in letterbox pixels); its class scores are
    ``gain`` times the mean red, green and blue of the letterboxed picture (0 to 1). ``work`` adds
    convolutions that change nothing but the time it takes.
    """
    count = len(names)
    weights = [
        numpy_helper.from_array(np.array(box, np.float32).reshape(1, 4, 1), "box"),
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array(gain, np.float32), "gain"),
        numpy_helper.from_array(np.array([1, 3, 1], np.int64), "shape"),
        numpy_helper.from_array(np.zeros((1, max(0, count - 3), 1), np.float32), "rest"),
        numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "same"),
    ]
    steps = [
        helper.make_node("Conv", [f"x{k}" if k else "images", "same"], [f"x{k + 1}"])
        for k in range(work)
    ]
    last = f"x{work}" if work else "images"
    steps += [
        helper.make_node("ReduceMean", [last, "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "gain"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["scores"]),
        helper.make_node("Concat", ["box", "scores", "rest"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        steps,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + count, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in (
        ("names", str(dict(enumerate(names)))),
        ("imgsz", "[64, 64]"),
        ("task", "detect"),
    ):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(file))
    return file


def write_ladder(folder: Path) -> dict[str, Path]:
    """Three siblings: large takes the most time, nano scores the least."""
    return {
        "nano": write_detector(folder / "nano.onnx", gain=0.5),
        "small": write_detector(folder / "small.onnx", gain=0.75, work=20),
        "large": write_detector(folder / "large.onnx", gain=1.0, work=200),
    }
