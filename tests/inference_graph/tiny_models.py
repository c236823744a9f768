"""What the tests of this folder share; the builders themselves are fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

MakeDetector = Callable[..., Path]
MakePolicy = Callable[..., Path]

NAMES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "bus",
    "truck",
    "traffic light",
    "stop sign",
    "dog",
)
"""Classes of the sample scenes."""


def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    frame = np.full((height, width, 3), 120, np.uint8)
    for _ in range(80):
        x, y = int(generator.integers(0, width)), int(generator.integers(0, height))
        side = int(generator.integers(3, 60))
        colour = tuple(int(part) for part in generator.integers(0, 256, 3))
        cv2.rectangle(frame, (x, y), (x + side, y + side), colour, cv2.FILLED)
        cv2.circle(frame, (x, y), side // 2, colour[::-1], 2)
    return frame
