"""Figures of a frame that the log, the streams' minutes and drift's reference hold alike."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from feature_transformer.image import Frame
from feature_transformer.observation import FRAME_FEATURES, Features

STATISTICS = ("brightness", "edge_density", "blur", "noise")
"""Names of the figures."""
_CENTRE = 640
"""Blur and noise are measured on at most so many rows and columns around the centre."""
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def seen_statistics(seen: Features | None) -> dict[str, float]:
    """Statistics that the observation already holds.

    Args:
        seen: float32 [OBSERVATION_SIZE], or its frame's part alone; or None.

    Returns:
        ``brightness``, the mean of the thumbnail, and ``edge_density``, the mean of the four
        quadrants', both 0..1; nothing without an observation.
    """
    if seen is None:
        return {}
    return {
        "brightness": float(seen[: FRAME_FEATURES - 4].mean()),
        "edge_density": float(seen[FRAME_FEATURES - 4 : FRAME_FEATURES].mean()),
    }


def pixel_statistics(frame: Frame) -> dict[str, float]:
    """Statistics that are measured on the pixels.

    Args:
        frame: uint8 [height, width, 3], BGR.

    Returns:
        ``blur``, the variance of the Laplacian (small when blurred), and ``noise``, the standard
        deviation of the noise in grey levels after J. Immerkaer, "Fast noise variance estimation"
        (1996): sqrt(pi / 2) / 6 times the mean magnitude under a kernel that is blind to edges.
        Both of at most 640x640 pixels around the centre; nothing for a frame under 3x3.
    """
    height, width = frame.shape[:2]
    if height < 3 or width < 3:
        return {}
    top, left = max((height - _CENTRE) // 2, 0), max((width - _CENTRE) // 2, 0)
    centre = frame[top : top + _CENTRE, left : left + _CENTRE]
    grey = cv2.cvtColor(centre, cv2.COLOR_BGR2GRAY)
    edges: Any = cv2.Laplacian(grey, cv2.CV_32F)
    grain: Any = cv2.filter2D(grey, cv2.CV_32F, _NOISE_KERNEL)[1:-1, 1:-1]
    return {
        "blur": float(edges.var()),
        "noise": float(np.sqrt(np.pi / 2) / 6 * np.abs(grain).mean()),
    }
