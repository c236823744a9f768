"""A frame of feedback to look at: on the left what the user says, on the right the reference."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from components.feedback.item import FeedbackItem
from components.feedback.store import FeedbackStore
from feature_transformer.image import Frame, decode
from foundation.errors import InvalidInput, StorageError
from foundation.storage import atomic_path
from inference_graph.contract import Detections
from inference_graph.local_video.annotate import draw_boxes


def drawn(store: FeedbackStore, item: FeedbackItem) -> Frame:
    """The frame with boxes, once or, where the reference has looked, twice side by side.

    Args:
        store: where its picture is.
        item: what to draw.

    Returns:
        uint8 [height, width, 3], BGR.

    Raises:
        InvalidInput: its picture is gone.
        ImageError: its picture is damaged.
    """
    data = store.pictures([item]).get(item.item_id)
    if data is None or not item.width or not item.height:
        raise InvalidInput(f"the frame of {item.item_id} is not kept; there is nothing to show")
    frame = decode(data)
    height, width = frame.shape[:2]
    names, ids = store.classes.names, list(store.classes.category_ids)
    labels = [ids.index(one) if one in ids else len(ids) for one in item.category_ids.tolist()]
    detections = Detections(
        item.scaled_boxes(width, height).astype(np.float32),
        np.ones(len(item), np.float32),
        np.array(labels, np.int32),
    )
    sides = [draw_boxes(frame, detections, names)]
    if item.reference is not None:
        scale = np.array([width / item.width, height / item.height] * 2, np.float32)
        seen = item.reference
        sides.append(
            draw_boxes(frame, Detections(seen.boxes * scale, seen.scores, seen.labels), names)
        )
    return np.asarray(np.concatenate(sides, axis=1), np.uint8)


def write_picture(store: FeedbackStore, item: FeedbackItem, path: Path) -> None:
    """Write :func:`drawn` to a file.

    Args:
        store: where its picture is.
        item: what to draw.
        path: .jpg or .png.

    Raises:
        InvalidInput: its picture is gone, or another kind of file.
        StorageError: the file cannot be written.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise InvalidInput(f"{path}: is no .jpg or .png; choose one of them")
    made, data = cv2.imencode(path.suffix.lower(), drawn(store, item))
    if not made:
        raise StorageError(f"{path}: the picture cannot be encoded; choose .png")
    with atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())
