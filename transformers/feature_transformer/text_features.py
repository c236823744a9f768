"""What a policy sees of an image whose text is read: how hard its letters are to tell apart.

A grey thumbnail shows nothing of that. The map holds the local detail instead, and the four
numbers measure how sharp, noisy, fine and skewed the image is. Each costs one or two filters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from feature_transformer.context import Features
from feature_transformer.image import Frame, check_frame
from feature_transformer.observation import FRAME_FEATURES, SCHEMA, THUMBNAIL, schema_hash

LONGEST = 480
"""Pixels of the longer side to which larger images are scaled down before they are measured."""
_DETAIL_UNIT = 64.0
_NOISE_UNIT = 16.0
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Immerkaer's (1996): it removes edges and leaves noise."""

TEXT_SCHEMA: Mapping[str, Any] = {
    **SCHEMA,
    "task": "ocr",
    "frame": {
        "map": {"shape": [THUMBNAIL, THUMBNAIL], "of": "|Laplacian| / 64", "resize": "INTER_AREA"},
        "numbers": ["sharpness", "noise", "fineness", "skew"],
        "longer_side": LONGEST,
    },
}
TEXT_SCHEMA_HASH = schema_hash(TEXT_SCHEMA)


def text_features(frame: Frame) -> Features:
    """The image's own part of the observation of the task ``ocr``.

    Args:
        frame: uint8 [height, width, 3], BGR.

    Returns:
        float32 [1028] in 0..1: 32x32 means of the absolute Laplacian over 64 (row-major), then

        - sharpness: 99th percentile of the absolute Laplacian over four times the contrast (the
          range between the 2nd and the 98th percentile of grey);
        - noise: Immerkaer's estimate of its standard deviation, over 16;
        - fineness: gradient that is lost when the image is halved, as a share: letters of few
          pixels lose more;
        - skew: angle between the main direction of the gradients and the axes, over 45 degrees.

    Raises:
        ImageError: the array is no frame.
    """
    check_frame(frame, sound=False)
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    scale = LONGEST / max(grey.shape)
    if scale < 1:
        size = max(round(grey.shape[1] * scale), 1), max(round(grey.shape[0] * scale), 1)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    values = grey.astype(np.float32)
    detail = np.abs(cv2.Laplacian(values, cv2.CV_32F))
    features = np.empty(FRAME_FEATURES, np.float32)
    cells = cv2.resize(detail, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    features[:-4] = cells.ravel() / _DETAIL_UNIT
    low, high = np.percentile(grey, (2, 98))
    contrast = max(float(high - low), 1.0)
    across = cv2.Sobel(values, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(values, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(across, down)
    features[-4] = float(np.percentile(detail, 99)) / (4 * contrast)
    features[-3] = _noise(values) / _NOISE_UNIT
    features[-2] = _fineness(values, float(strength.mean()))
    features[-1] = _skew(across, down, strength)
    return np.clip(features, 0.0, 1.0, out=features)


def _noise(values: Features) -> float:
    """Standard deviation of the noise, estimated from the quieter half of the pixels."""
    residue = np.abs(cv2.filter2D(values, cv2.CV_32F, _NOISE_KERNEL))
    # The kernel multiplies noise by 6; the median of |N(0, 1)| is 0.6745.
    return float(np.median(residue)) / (6 * 0.6745)


def _fineness(values: Features, strength: float) -> float:
    if strength <= 0:
        return 0.0
    size = max(values.shape[1] // 2, 1), max(values.shape[0] // 2, 1)
    half = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    across = cv2.Sobel(half, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(half, cv2.CV_32F, 0, 1)
    # Half the pixels for the same edge: a gradient that survives is twice as steep there.
    return 1.0 - float(cv2.magnitude(across, down).mean()) / (2 * strength)


def _skew(
    across: cv2.typing.MatLike, down: cv2.typing.MatLike, strength: cv2.typing.MatLike
) -> float:
    """Share of 45 degrees by which the main direction of the gradients misses an axis."""
    strong = strength > 4 * float(strength.mean())
    if not strong.any():
        return 0.0
    angle = 4 * np.arctan2(down[strong], across[strong])
    weight = strength[strong]
    mean = math.atan2(float((weight * np.sin(angle)).sum()), float((weight * np.cos(angle)).sum()))
    return abs(mean) / math.pi
