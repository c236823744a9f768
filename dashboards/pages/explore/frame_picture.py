"""A logged frame as a picture with boxes, and in words."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from dashboards.log.frames import LoggedFrame
from feature_transformer.image import decode
from feature_transformer.sound import seen
from foundation.errors import ImageError
from inference_graph.contract import LADDER, Detections
from inference_graph.local_video.annotate import draw_boxes
from inference_graph.tasks.ocr.reading import text_of

SEEN_SCORE = 0.25
"""Detections below it are neither drawn nor counted."""
_WHY_NOT = {
    "failed": "the chosen rung failed",
    "late": "the chosen rung was late",
    "open": "the chosen rung was left alone after failures",
}


def picture(frame: LoggedFrame, class_names: Sequence[str]) -> str | None:
    """The kept image with boxes as a ``data:`` URI; None where none was kept, or it is broken."""
    if frame.image is None:
        return None
    try:
        image = decode(frame.image)  # a device may have sent the row: it is a stranger's picture
    except ImageError:
        return None
    found = frame.seen.at_least(SEEN_SCORE)
    # Boxes are in pixels of the frame as it came, which the kept image may be a smaller one of.
    shown = seen(image)
    scale = [
        shown.shape[1] / (frame.values.get("width") or image.shape[1]),
        shown.shape[0] / (frame.values.get("height") or image.shape[0]),
    ] * 2
    scaled = Detections((found.boxes * scale).astype(np.float32), found.scores, found.labels)
    drawn = draw_boxes(shown, scaled, class_names, SEEN_SCORE)
    made, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}" if made else None


def seen_words(frame: LoggedFrame, class_names: Sequence[str]) -> str:
    """What was seen, for whoever does not see the picture: "2 × car, 1 × person", or the text."""
    if frame.seen.texts is not None:
        text = " / ".join(text_of(frame.seen).splitlines())
        return f"“{text}”" if text else "no text"
    counts: dict[str, int] = {}
    for label in frame.seen.at_least(SEEN_SCORE).labels.tolist():
        name = class_names[label] if 0 <= label < len(class_names) else f"class {label}"
        counts[name] = counts.get(name, 0) + 1
    summary = ", ".join(f"{count} × {name}" for name, count in sorted(counts.items()))
    return summary or "nothing"


def why(frame: LoggedFrame) -> str:
    """Why this rung looked, in one sentence."""
    values = frame.values
    chosen, answered = values.get("rung") or "", values.get("answered_by") or ""
    if not answered:
        return values.get("error") or "no rung answered"
    if values.get("fallback"):
        reason = _WHY_NOT.get(values["fallback"], values["fallback"])
        return f"{answered} stood in for {chosen}: {reason}"
    shares = frame.probabilities
    if len(shares) != len(LADDER):
        return f"{answered} answered"
    if max(shares) > 0.9995:
        return f"{answered}, without a doubt"
    others = ", ".join(
        f"{rung} {share:.0%}" for rung, share in zip(LADDER, shares, strict=True) if rung != chosen
    )
    mine = shares[LADDER.index(chosen)] if chosen in LADDER else 0.0
    return f"{chosen} with {mine:.0%} (others: {others})"
