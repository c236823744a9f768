"""An image with what was read in it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from feature_transformer.image import Frame
from inference_graph.contract import Detections
from inference_graph.tasks.ocr.reading import text_of

_COLOUR = (170, 90, 20)
_LINE_HEIGHT = 18
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def draw_texts(
    frame: Frame, found: Detections, class_names: Sequence[str], score: float = 0.25
) -> Frame:
    """The image with a box around each line, and below it what was read.

    Args:
        frame: uint8 [height, width, 3], BGR; left as it is.
        found: lines in pixels of the frame.
        class_names: not needed here; see ``Task.draw``.
        score: lines of less confidence are left out.
    """
    kept = found.at_least(score)
    drawn = frame.copy()
    for left, top, right, bottom in kept.boxes.round().astype(int).tolist():
        cv2.rectangle(drawn, (left, top), (right, bottom), _COLOUR, 1)
    lines = text_of(kept).encode("ascii", "replace").decode().splitlines() or ["(nothing)"]
    strip = np.full((_LINE_HEIGHT * len(lines) + 6, frame.shape[1], 3), 255, np.uint8)
    for row, line in enumerate(lines):
        place = (4, _LINE_HEIGHT * (row + 1) - 2)
        cv2.putText(strip, line, place, _FONT, _SIZE, (40, 40, 40), 1, cv2.LINE_AA)
    return np.asarray(np.concatenate([drawn, strip]), np.uint8)
