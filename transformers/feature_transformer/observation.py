"""What the policy sees: 1028 numbers of the frame, then a named context block.

This is the only implementation; profiling, training and serving all call it. A policy carries
``SCHEMA_HASH`` of the schema it was trained on, and a server refuses one made for another.

====================  =====  ================================================================
block                 size   content
====================  =====  ================================================================
``FRAME_SLICE``       1028   32x32 grey thumbnail, then the edge density of four quadrants
``LOOK_SLICE``          16   what the rung chosen for the previous frame saw; zeros without one
``LOAD_SLICE``           3   expected wait of every rung's queue
``PREFERENCE_INDEX``     1   the operating point: how much latency weighs against quality
====================  =====  ================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from feature_transformer.context import (
    CONTEXT_FEATURES,
    CONTEXT_NAMES,
    COUNT_SCORES,
    DEFAULT_LATENCY_WEIGHT,
    DOUBT_SCORE,
    LADDER,
    LOAD_LIMIT,
    LOAD_NAMES,
    LOAD_UNIT_MS,
    LOOK_NAMES,
    PREFERENCE_RANGE,
    SEEN_SCORE,
    TINY_SIZE,
    Features,
    Look,
    context_features,
    load_features,
    look_features,
    preference,
)
from feature_transformer.image import Frame, check_frame
from foundation.errors import InvalidInput

__all__ = [
    "CONTEXT_FEATURES",
    "CONTEXT_NAMES",
    "DEFAULT_LATENCY_WEIGHT",
    "FRAME_FEATURES",
    "FRAME_SLICE",
    "LADDER",
    "LOAD_NAMES",
    "LOAD_SLICE",
    "LOOK_NAMES",
    "LOOK_SLICE",
    "OBSERVATION_SIZE",
    "PREFERENCE_INDEX",
    "SCHEMA",
    "SCHEMA_HASH",
    "Features",
    "Look",
    "context_features",
    "frame_features",
    "load_features",
    "look_features",
    "observation",
    "preference",
]

THUMBNAIL = 32
"""Side of the grey thumbnail in pixels."""
EDGE_SIDE = 320
"""Edges are sought in the frame scaled down (never up) until its longer side is this long."""
CANNY_LOW, CANNY_HIGH = 100, 200

FRAME_FEATURES = THUMBNAIL * THUMBNAIL + 4
OBSERVATION_SIZE = FRAME_FEATURES + CONTEXT_FEATURES

FRAME_SLICE = slice(0, FRAME_FEATURES)
LOOK_SLICE = slice(FRAME_FEATURES, FRAME_FEATURES + len(LOOK_NAMES))
LOAD_SLICE = slice(LOOK_SLICE.stop, LOOK_SLICE.stop + len(LOAD_NAMES))
PREFERENCE_INDEX = LOAD_SLICE.stop

SCHEMA: Mapping[str, Any] = {
    "version": 1,
    "size": OBSERVATION_SIZE,
    "ladder": list(LADDER),
    "frame": {
        "thumbnail": {
            "shape": [THUMBNAIL, THUMBNAIL],
            "grey": "BGR2GRAY",
            "resize": "INTER_AREA",
            "divide_by": 255,
            "order": "row-major",
        },
        "edges": {
            "quadrants": ["top-left", "top-right", "bottom-left", "bottom-right"],
            "longer_side": EDGE_SIDE,
            "resize": "INTER_AREA",
            "canny": [CANNY_LOW, CANNY_HIGH],
        },
    },
    "context": {
        "names": list(CONTEXT_NAMES),
        "count_scores": list(COUNT_SCORES),
        "doubt_score": DOUBT_SCORE,
        "seen_score": SEEN_SCORE,
        "tiny_size": TINY_SIZE,
        "load_unit_ms": LOAD_UNIT_MS,
        "load_limit": LOAD_LIMIT,
        "preference": {"scale": "log10", "range": list(PREFERENCE_RANGE)},
    },
}


def schema_hash(schema: Mapping[str, Any]) -> str:
    """The hash of an observation's schema, which a policy carries."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


SCHEMA_HASH = schema_hash(SCHEMA)


def frame_features(frame: Frame) -> Features:
    """The part of the observation that comes from the frame's pixels.

    Args:
        frame: uint8 [height, width, 3], BGR.

    Returns:
        float32 [1028] in 0..1: the 32x32 grey thumbnail (row-major, divided by 255), then the
        share of Canny edge pixels in the top-left, top-right, bottom-left and bottom-right
        quadrant. A quadrant without pixels (a frame one pixel high or wide) has density 0.

    Raises:
        ImageError: the array is no frame.
    """
    check_frame(frame, sound=False)
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    features = np.empty(FRAME_FEATURES, np.float32)
    thumbnail = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    np.multiply(thumbnail.ravel(), np.float32(1 / 255), out=features[:-4])

    height, width = grey.shape
    scale = EDGE_SIDE / max(height, width)
    if scale < 1:
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        height, width = grey.shape
    edges = cv2.Canny(grey, CANNY_LOW, CANNY_HIGH)
    row, column = height // 2, width // 2
    quadrants = (
        edges[:row, :column],
        edges[:row, column:],
        edges[row:, :column],
        edges[row:, column:],
    )
    features[-4:] = [
        cv2.countNonZero(quadrant) / quadrant.size if quadrant.size else 0.0
        for quadrant in quadrants
    ]
    return features


def observation(
    frame: Frame, context: Features, features: Callable[[Frame], Features] = frame_features
) -> Features:
    """All that the policy sees of one frame.

    Args:
        frame: uint8 [height, width, 3], BGR.
        context: float32 [20] from :func:`context_features`.
        features: makes the frame's own part, float32 [1028].

    Returns:
        float32 [1048].

    Raises:
        ImageError: the array is no frame.
        InvalidInput: the context block has another size.
    """
    if context.shape != (CONTEXT_FEATURES,):
        raise InvalidInput(
            f"a context block of shape {context.shape}; it must be ({CONTEXT_FEATURES},)"
        )
    return np.concatenate((features(frame), context.astype(np.float32, copy=False)))
