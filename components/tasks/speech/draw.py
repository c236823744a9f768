"""A recording as its spectrogram, with the recognized words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from components.tasks.ocr.draw import draw_texts
from feature_transformer.image import Frame
from feature_transformer.sound import seen
from inference_graph.contract import Detections


def draw_words(
    frame: Frame, found: Detections, class_names: Sequence[str], score: float = 0.25
) -> Frame:
    """The spectrogram with a box from the start to the end of each word, and the words below it.

    Args:
        frame: a recording; left as it is.
        found: words in pixels of the frame.
        class_names: not needed here; see ``Task.draw``.
        score: not used: doubtful words are part of the answer.
    """
    picture = seen(frame)
    scale = np.array([picture.shape[1] / frame.shape[1], picture.shape[0] / frame.shape[0]] * 2)
    boxes = (found.boxes * scale).astype(np.float32)
    return draw_texts(picture, replace(found, boxes=boxes), class_names, 0.0)
