"""The input sizes that a YOLO network takes."""

from __future__ import annotations

from foundation.errors import ConfigurationError

STRIDE = 32
"""Pixels between two cells of the coarsest grid: the input holds whole ones."""


def check_input_size(height: int, width: int) -> None:
    """Raise ConfigurationError for an input that the network cannot have."""
    if height % STRIDE or width % STRIDE or min(height, width) < STRIDE:
        raise ConfigurationError(
            f"input {height}x{width} does not suit the network; "
            f"height and width must be multiples of {STRIDE}"
        )
