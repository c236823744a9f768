"""The orientation that an image's EXIF block asks for, and a frame turned by it."""

from __future__ import annotations

import struct
from typing import Any

import numpy.typing as npt

UPRIGHT = 1
_ORIENTATION = 0x0112
_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""EXIF's types BYTE, SHORT and LONG; the standard asks for SHORT, some writers use another."""
_MOST_ENTRIES = 1000
"""Entries are sorted by their tags, and fewer than this come before that of the orientation."""
_PREFIX = b"Exif\x00\x00"


def orientation(block: bytes) -> int:
    """The orientation noted in an EXIF block, 1 to 8; 1, upright, where none can be read.

    Args:
        block: a TIFF structure, with or without ``Exif`` and two zeros before it.
    """
    block = block.removeprefix(_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return UPRIGHT
    try:
        (at,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, at)
        for entry in range(at + 2, at + 2 + 12 * min(entries, _MOST_ENTRIES), 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == _ORIENTATION and kind in _NUMBERS:
                (value,) = struct.unpack_from(order + _NUMBERS[kind], block, entry + 8)
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass  # the block ends early; the picture is none the worse for it
    return UPRIGHT


def swaps_sides(value: int) -> bool:
    """Whether an orientation makes rows of columns."""
    return value >= 5


def turned(frame: npt.NDArray[Any], value: int) -> npt.NDArray[Any]:
    """A view of a frame as its orientation wants it seen.

    Args:
        frame: [height, width, …] as stored.
        value: 1 to 8, as in EXIF 2.3, section 4.6.4 A.
    """
    if swaps_sides(value):
        frame = frame.swapaxes(0, 1)
    if value in (3, 4, 7, 8):
        frame = frame[::-1]
    if value in (2, 3, 6, 7):
        frame = frame[:, ::-1]
    return frame
