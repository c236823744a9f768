"""How well a rung detects, as the file that serves and as the checkpoint it came from.

Both go through the same letterbox and the same suppression, so a difference between them can only
come from the export.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.data.classes import Classes, refuse_unjudgeable
from components.data.dataset import SCENE_TYPES, Dataset
from components.evaluation.average_precision import SeenDetections, match_detections
from components.ladder.export_check import refuse_other_networks
from components.parallel import Progress
from feature_transformer.image import Frame
from foundation.errors import InvalidInput, ModelError
from inference_graph.contract import Detections
from inference_graph.detector import DetectorConfig
from inference_graph.detector.letterbox import Letterbox
from inference_graph.detector.suppression import candidates, suppress
from inference_graph.tasks.rung import Rung

Detect = Callable[[Frame], Detections]
"""A frame, uint8 ``[H, W, 3]`` BGR, to what is seen in it."""


@dataclass(frozen=True)
class Accuracy:
    """MAP50-95 over all frames and over those of each scene type, 0..1.

    None where the data set holds no object that counts.
    """

    overall: float | None
    sparse: float | None
    moderate: float | None
    dense: float | None


def measure(data: Dataset, detect: Detect, classes: Classes, progress: Progress) -> Accuracy:
    """Run a detector over a data set and count its accuracy.

    Args:
        data: frames and objects.
        detect: the detector.
        classes: its own.
        progress: called with frames done and in all.

    Raises:
        InvalidInput: the data set holds no frame.
        AnnotationError: no object in it counts.
        ImageError: a picture is missing or damaged.
    """
    if not len(data):
        raise InvalidInput(f"{data.root}: holds no frame to judge a detector by; give some")
    refuse_unjudgeable(data, classes)
    found = []
    for index in range(len(data)):
        found.append(detect(data.read(index)))
        progress(index + 1, len(data))
    seen = SeenDetections.of(found, classes.category_ids)
    matched = match_detections(data, [seen], classes)
    kinds = np.array([image.scene_type for image in data.images])
    groups = [np.ones(len(data)), *((kinds == kind).astype(np.float64) for kind in SCENE_TYPES)]
    figures = [matched.mean_average_precision(0, weights) for weights in groups]
    return Accuracy(*(None if np.isnan(value) else float(value) for value in figures))


def detect_by_file(detector: Rung) -> Detect:
    """An exported rung as it serves."""
    return lambda frame: detector.detect(frame).detections


def detect_by_checkpoint(weights: Path, like: Rung) -> Detect:
    """A PyTorch checkpoint behind the same pre- and post-processing as an exported rung.

    Args:
        weights: an Ultralytics checkpoint (.pt).
        like: the rung exported from it; its input size and settings are taken.

    Raises:
        ModelError: the checkpoint cannot be read, or knows other classes than the rung.
    """
    from ultralytics import YOLO

    if not weights.is_file():
        raise ModelError(f"{weights} does not exist; give the checkpoint the rung came from (.pt)")
    try:
        opened = YOLO(weights)
        refuse_other_networks(opened, weights)
        names = tuple(str(name) for name in opened.names.values())
        network: Any = opened.model.float().eval()
    except ModelError:
        raise
    except Exception as error:  # Ultralytics raises whatever its loader meets
        raise ModelError(
            f"{weights} is no Ultralytics checkpoint ({type(error).__name__}); "
            "give the one the rung was exported from"
        ) from error
    if names != like.class_names:
        raise ModelError(
            f"{weights} knows {len(names)} classes, {like.config.weights} {len(like.class_names)}, "
            "or they differ in name; give the checkpoint the rung was exported from"
        )
    config: DetectorConfig = like.config

    def detect(frame: Frame) -> Detections:
        placed = Letterbox.fit((frame.shape[0], frame.shape[1]), like.input_size)
        with torch.inference_mode():
            answer = network(torch.from_numpy(placed.tensor(frame)))
        # In evaluation mode the head answers the decoded boxes first, its raw maps after them.
        output = (answer[0] if isinstance(answer, list | tuple) else answer)[0].numpy()
        found = candidates(output, config.confidence, config.multi_label, config.max_candidates)
        kept = suppress(found, config.iou, config.max_detections)
        return Detections(
            placed.boxes_to_frame(found.boxes[kept]), found.scores[kept], found.labels[kept]
        )

    return detect
