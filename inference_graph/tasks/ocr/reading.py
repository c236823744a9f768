"""Regions of text in the order in which people read them, and how alike two texts are."""

from __future__ import annotations

import numpy as np

from foundation.errors import ConfigurationError
from inference_graph.contract import Detections

_SAME_LINE = 0.5
"""Centres nearer than this share of the taller region's height are on one line."""


def text_of(found: Detections) -> str:
    """What the regions read together: lines from top to bottom, in each from left to right."""
    return "\n".join(" ".join(line) for line in _lines(found))


def normal(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def one_minus_ned(truth: str, read: str) -> float:
    """1 less the edit distance over the length of the longer text; 1 where both are empty.

    Over the characters of two texts that :func:`normal` returned.

    Raises:
        ConfigurationError: the extra ``ocr`` is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise ConfigurationError(
            f"comparing texts needs a package that is not installed ({error}); "
            "pip install 'gearshift[ocr]'"
        ) from error
    return float(Levenshtein.normalized_similarity(truth, read))


def _lines(found: Detections) -> list[list[str]]:
    texts, boxes = found.texts or (), found.boxes.astype(np.float64)
    middles, heights = (boxes[:, 1] + boxes[:, 3]) / 2, boxes[:, 3] - boxes[:, 1]
    rows: list[list[int]] = []
    for region in np.argsort(middles, kind="stable").tolist():
        if rows:
            first = rows[-1][0]
            near = _SAME_LINE * max(heights[region], heights[first])
            if middles[region] - middles[first] < near:
                rows[-1].append(region)
                continue
        rows.append([region])
    return [[texts[region] for region in sorted(row, key=lambda r: boxes[r, 0])] for row in rows]
