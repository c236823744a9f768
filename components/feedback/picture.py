"""A frame of feedback to look at: with the user's boxes, the model's answer, and the reference."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from components.feedback.item import FeedbackItem
from components.feedback.store import FeedbackStore
from feature_transformer.image import Frame, decode
from foundation.errors import InvalidInput, StorageError
from foundation.storage import atomic_path
from inference_graph.contract import REFERENCE, Detections
from inference_graph.local_video.annotate import draw_boxes
from inference_graph.prediction_log.agreement import AGREEMENT_SCORE


def views(store: FeedbackStore, item: FeedbackItem) -> list[tuple[str, Frame]]:
    """The frame with the user's boxes, then with those of the answer and of the reference.

    The answer is left out where the log has none, the reference where it has not looked or gave
    the answer itself.

    Args:
        store: where its picture is.
        item: what to draw.

    Returns:
        Whose boxes they are, and uint8 [height, width, 3], BGR, of each view.

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
    found = [(item.user, draw_boxes(frame, detections, names))]
    scale = np.array([width / item.width, height / item.height] * 2, np.float32)
    by_reference = item.answered_by == REFERENCE
    for title, seen in (
        (f"the answer of {item.answered_by}", item.answer),
        (f"the reference, {REFERENCE}", None if by_reference else item.reference),
    ):
        if seen is not None:
            scaled = Detections(seen.boxes * scale, seen.scores, seen.labels)
            found.append((title, draw_boxes(frame, scaled.at_least(AGREEMENT_SCORE), names)))
    return found


def write_picture(store: FeedbackStore, item: FeedbackItem, path: Path) -> None:
    """Write the :func:`views`, side by side, to a file.

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
    made, data = cv2.imencode(
        path.suffix.lower(), np.concatenate([view for _, view in views(store, item)], axis=1)
    )
    if not made:
        raise StorageError(f"{path}: the picture cannot be encoded; choose .png")
    with atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())
