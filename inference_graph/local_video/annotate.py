"""Drawing a routed frame: boxes with names and scores, and a strip with the routing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from feature_transformer.image import Frame
from inference_graph.contract import Detections

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT = 0.5
_STRIP = 56
"""Height of the strip above the picture, in pixels."""
_LEGIBLE = 960
"""Frames are enlarged by a whole factor until their longer side is at least this long."""

RUNG_COLOURS = {"nano": (113, 204, 46), "small": (18, 156, 243), "large": (60, 76, 231)}
"""BGR: green, orange, red."""


@dataclass(frozen=True)
class Caption:
    """Content of the strip.

    Attributes:
        rung: who looked.
        milliseconds: time of this frame, routing included.
        saving: share of the time saved so far against always using the reference, or None
            when the reference was not measured.
        frame: number of the frame, from 0.
        probabilities: one per rung in the ladder's order, drawn as bars; may be empty.
    """

    rung: str
    milliseconds: float
    saving: float | None
    frame: int
    probabilities: Sequence[float] = ()


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the drawing of a frame; both even, as video codecs want."""
    factor = _factor(height, width)
    return height * factor // 2 * 2 + _STRIP, max(width * factor // 2 * 2, 2)


def annotate(
    frame: Frame,
    detections: Detections,
    class_names: Sequence[str],
    caption: Caption,
    score: float = 0.25,
) -> Frame:
    """Draw a routed frame.

    Args:
        frame: uint8 [height, width, 3], BGR; left as it is.
        detections: in pixels of the frame.
        class_names: names by label.
        caption: content of the strip above the picture.
        score: detections below it are not drawn.

    Returns:
        uint8 [canvas_size(height, width), 3], BGR, enlarged so that text is legible.
    """
    canvas = np.zeros((*canvas_size(*frame.shape[:2]), 3), np.uint8)
    canvas[_STRIP:] = draw_boxes(frame, detections, class_names, score)
    _draw_strip(canvas[:_STRIP], caption)
    return canvas


def draw_boxes(
    frame: Frame, detections: Detections, class_names: Sequence[str], score: float = 0.25
) -> Frame:
    """Draw what was seen.

    Args:
        frame: uint8 [height, width, 3], BGR; left as it is.
        detections: in pixels of the frame.
        class_names: names by label; a label without one is drawn as its number.
        score: detections below it are not drawn.

    Returns:
        uint8, BGR, as large as ``canvas_size``, without the strip.
    """
    height, width = frame.shape[:2]
    canvas_height, canvas_width = canvas_size(height, width)
    factor = _factor(height, width)
    picture = np.zeros((canvas_height - _STRIP, canvas_width, 3), np.uint8)
    large = frame
    if factor > 1:
        large = np.asarray(
            cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8
        )
    shown = large[: picture.shape[0], : picture.shape[1]]
    picture[: shown.shape[0], : shown.shape[1]] = shown
    seen = detections.at_least(score)
    for box, certainty, label in zip(seen.boxes, seen.scores, seen.labels, strict=True):
        name = class_names[label] if 0 <= label < len(class_names) else f"class {label}"
        text = f"{name} {certainty:.2f}"
        draw_box(picture, box * factor, text, class_colour(int(label)))
    return picture


def _factor(height: int, width: int) -> int:
    return max(-(-_LEGIBLE // max(height, width)), 1)


def draw_box(
    picture: Frame, box: npt.NDArray[Any], text: str, colour: tuple[int, int, int]
) -> None:
    """Draw a box, its corners in pixels of the picture, and its name; in place."""
    left, top, right, bottom = (round(float(side)) for side in box)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)
    (wide, high), below = cv2.getTextSize(text, _FONT, _TEXT, 1)
    # The name stands above its box, within it at the upper edge, and never off the picture.
    base = top - below if top - below - high >= 0 else top + high + below
    start = min(max(left, 0), max(picture.shape[1] - wide, 0))
    cv2.rectangle(
        picture, (start, base - high - 2), (start + wide, base + below), colour, cv2.FILLED
    )
    ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
    cv2.putText(picture, text, (start, base), _FONT, _TEXT, ink, 1, cv2.LINE_AA)


def _draw_strip(strip: Frame, caption: Caption) -> None:
    colour = RUNG_COLOURS[caption.rung]
    cv2.rectangle(strip, (0, 0), (12, _STRIP), colour, cv2.FILLED)
    cv2.putText(strip, caption.rung, (22, 24), _FONT, 0.8, colour, 2, cv2.LINE_AA)
    saved = "" if caption.saving is None else f"   saved {caption.saving:.0%}"
    words = f"{caption.milliseconds:.1f} ms{saved}   frame {caption.frame}"
    cv2.putText(strip, words, (22, 48), _FONT, _TEXT, (230, 230, 230), 1, cv2.LINE_AA)
    full = strip.shape[1] // 6
    left = strip.shape[1] - full - 10
    for row, (share, bar) in enumerate(
        zip(caption.probabilities, RUNG_COLOURS.values(), strict=False)
    ):
        top = 6 + row * 16
        cv2.rectangle(strip, (left, top), (left + full, top + 12), (60, 60, 60), cv2.FILLED)
        cv2.rectangle(strip, (left, top), (left + round(full * share), top + 12), bar, cv2.FILLED)


def class_colour(label: int) -> tuple[int, int, int]:
    """A bright colour per class; steps of the golden ratio keep neighbours apart."""
    hue = int(label * 0.618034 % 1 * 180)
    blue, green, red = cv2.cvtColor(np.array([[[hue, 190, 235]]], np.uint8), cv2.COLOR_HSV2BGR)[
        0, 0
    ]
    return int(blue), int(green), int(red)
