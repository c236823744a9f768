"""A frame as a point: what the multivariate tests compare.

The observation's thumbnail at 8x8 instead of 32x32 pixels, then the edge density of the four
quadrants. It is a fixed projection: one that was fitted to the reference would fit the reference
better than any other frames, and so find drift where there is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feature_transformer.observation import FRAME_FEATURES, THUMBNAIL

SIDE = 8
EMBEDDING = SIDE * SIDE + 4
"""Numbers of an embedding."""


def embed(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed the frame's part of observations.

    Args:
        frames: float32 [n, >= 1028], observations or their first block.

    Returns:
        float32 [n, 68], all in 0..1.
    """
    cell = THUMBNAIL // SIDE
    pixels = frames[:, : THUMBNAIL * THUMBNAIL].reshape(-1, SIDE, cell, SIDE, cell)
    found = np.empty((len(frames), EMBEDDING), np.float32)
    found[:, :-4] = pixels.mean(axis=(2, 4)).reshape(-1, SIDE * SIDE)
    found[:, -4:] = frames[:, FRAME_FEATURES - 4 : FRAME_FEATURES]
    return found
