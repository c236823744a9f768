"""The reference detector's look at frames of feedback that it has not seen, kept in the store.

::

    {"item": "...", "revision": "...", "boxes": [[...]], "scores": [...], "labels": [...]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from components.feedback.item import FeedbackItem
from components.parallel import Progress, no_progress
from feature_transformer.image import decode
from foundation.errors import ImageError, InvalidInput
from foundation.json_lines import appending, read_lines
from inference_graph.contract import Detections
from inference_graph.tasks.rung import Rung

LOOKS_FILE = "reference.jsonl"


def with_looks(folder: Path, items: Sequence[FeedbackItem]) -> list[FeedbackItem]:
    """Items with what the reference saw, where it has looked.

    Raises:
        InvalidInput: a line of the file is no look; names it.
    """
    looks: dict[str, Detections] = {}
    file = folder / LOOKS_FILE
    for number, line in enumerate(read_lines(file), 1):
        try:
            looks[str(line["item"])] = Detections(
                np.array(line["boxes"], np.float32).reshape(-1, 4),
                np.array(line["scores"], np.float32),
                np.array(line["labels"], np.int32),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{file} line {number} is no look; remove the file") from error
    return [
        replace(item, reference=looks[item.item_id])
        if item.reference is None and item.item_id in looks
        else item
        for item in items
    ]


def look(
    folder: Path,
    items: Sequence[FeedbackItem],
    pictures: Mapping[str, bytes],
    detector: Rung,
    progress: Progress = no_progress,
) -> int:
    """Have the reference look at the frames of items it has not seen.

    Args:
        folder: of the store.
        items: which ones.
        pictures: their pictures; those without one are passed over.
        detector: the reference.
        progress: called with frames.

    Returns:
        How many frames it looked at; a picture that cannot be decoded is passed over.

    Raises:
        StorageError: the store cannot be written.
    """
    waiting = [item for item in items if item.reference is None and item.item_id in pictures]
    looked = 0
    for done, item in enumerate(waiting, 1):
        try:
            frame = decode(pictures[item.item_id])
        except ImageError:
            continue
        found = detector.detect(frame).detections
        height, width = frame.shape[:2]
        # The frame may be larger than the picture that is kept of it.
        scale = np.array([item.width / width, item.height / height] * 2)
        with appending(folder / LOOKS_FILE) as (_, append):
            append(
                {
                    "item": item.item_id,
                    "revision": detector.revision,
                    "boxes": np.round(found.boxes * scale, 2).tolist(),
                    "scores": np.round(found.scores.astype(np.float64), 4).tolist(),
                    "labels": found.labels.tolist(),
                }
            )
        looked += 1
        progress(done, len(waiting))
    return looked
