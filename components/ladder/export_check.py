"""Checks on an export: it is a detector, it serves, and it answers as its checkpoint does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from foundation.errors import ModelError
from inference_graph.contract import DETECTOR_INPUT, DETECTOR_OUTPUT, LADDER
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.sessions import open_model, run

_HEAD = "Detect"
"""Ultralytics' name of the head whose answer serving reads: boxes and a score for each class."""

_SCORES, _BOXES = 0.1, 0.05
"""Most by which scores, and the boxes of all but one anchor in twenty (as share of the input's
longer side), may differ from the checkpoint's: what int8 weights come to with room to spare. How
much accuracy that costs, ``components.ladder.check`` measures."""


def refuse_other_networks(network: Any, weights: Path) -> None:
    """Raise ModelError for a checkpoint of another task, or with another head.

    Args:
        network: as Ultralytics' ``YOLO`` loaded it.
        weights: its file, for the message.
    """
    task = getattr(network, "task", None)
    if task != "detect":
        raise ModelError(
            f"{weights} is for the task {task!r}, and a rung detects; "
            "give a checkpoint of a detection model"
        )
    head = network.model.model[-1]
    kind = type(head).__name__
    end_to_end = getattr(head, "one2one_cv2", None) is not None
    if kind != _HEAD or end_to_end:
        what = f"{kind}, end to end" if end_to_end else kind
        raise ModelError(
            f"{weights} has the head {what}, which answers finished boxes or other scores; give a "
            f"YOLO with the head {_HEAD} and without built-in suppression, such as YOLOv8 or YOLO11"
        )
    names = len(network.names)
    if names != head.nc:
        raise ModelError(
            f"{weights} names {names} classes and has scores for {head.nc}; "
            "give the checkpoint with the names it was trained with"
        )


def check_export(file: Path, network: Any, weights: Path) -> None:
    """Open an exported file as serving does, and compare its answer with the checkpoint's.

    Args:
        file: the ONNX file.
        network: the checkpoint, as Ultralytics' ``YOLO`` loaded it.
        weights: its file, for the message.

    Raises:
        ModelError: serving does not open the file, or it answers something else.
    """
    try:
        detector = Detector(DetectorConfig(file, LADDER[0]))
        height, width = detector.input_size
        picture = np.random.default_rng(0).random((1, 3, height, width), np.float32)
        answer = run(
            open_model(file, DetectorConfig.threads, DetectorConfig.providers),
            (DETECTOR_OUTPUT,),
            {DETECTOR_INPUT: picture},
        )[0]
    except ModelError as error:
        raise ModelError(f"{weights}: its export does not serve: {error}") from error
    with torch.inference_mode():
        found = network.model.float().eval()(torch.from_numpy(picture))
    # In evaluation mode the head answers the decoded boxes first, its raw maps after them.
    expected = (found[0] if isinstance(found, list | tuple) else found).numpy()
    if not _alike(np.asarray(answer, np.float32), expected, max(height, width)):
        raise ModelError(
            f"{weights}: its export answers something else than the checkpoint does; "
            "export it without compression, or with another opset"
        )


def _alike(
    answer: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], longer_side: int
) -> bool:
    if answer.shape != expected.shape or not np.isfinite(answer).all():
        return False
    apart = np.abs(answer - expected)
    boxes = apart[:, :4].max(axis=1)
    return bool(apart[:, 4:].max() <= _SCORES and np.percentile(boxes, 95) <= _BOXES * longer_side)
