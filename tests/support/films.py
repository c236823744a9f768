"""Small videos, and what their containers state of them rewritten by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

SIZE = (96, 128)
"""(height, width) of every film."""

TURNED = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""a, b, c, d of a track's matrix, by degrees clockwise: x' = ax + cy, y' = bx + dy."""

_UP_TO_TIMES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts")


def film(path: Path, count: int = 12, fps: float = 10.0) -> Path:
    """Frames whose left edge is blue and whose grey tells their number."""
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, fps, SIZE[::-1])
    for number in range(count):
        frame = np.full((*SIZE, 3), 20 * number, np.uint8)
        frame[:, :16] = (255, 0, 0)
        frame[::2, 40:] += np.random.default_rng(number).integers(0, 12, (48, 88, 3), np.uint8)
        writer.write(frame)
    writer.release()
    return path


def turned(path: Path, degrees: int) -> Path:
    """Write a rotation into an mp4's track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes before the matrix
    a, b, c, d = (value << 16 for value in TURNED[degrees])
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def uneven(path: Path) -> Path:
    """Show the first half of an mp4's frames for half of their time, the second half longer."""
    data = bytearray(path.read_bytes())
    start = 0
    places = []
    for kind in _UP_TO_TIMES:
        start = data.index(kind, start)
        places.append(start - 4)
    count, ticks = struct.unpack(">II", data[start + 12 : start + 20])
    half = count // 2
    data[start + 8 : start + 20] = struct.pack(
        ">5I", 2, half, ticks // 2, count - half, ticks + ticks // 2
    )
    for place in places:
        size = struct.unpack(">I", data[place : place + 4])[0]
        data[place : place + 4] = struct.pack(">I", size + 8)
    path.write_bytes(data)
    return path


def damaged(path: Path, number: int) -> Path:
    """Overwrite one frame of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 12
    count = struct.unpack(">I", data[at : at + 4])[0]
    sizes = struct.unpack(f">{count}I", data[at + 4 : at + 4 + 4 * count])
    first = data.index(b"stco") + 12
    begin = struct.unpack(">I", data[first : first + 4])[0] + sum(sizes[:number])
    data[begin : begin + sizes[number]] = bytes(sizes[number])
    path.write_bytes(data)
    return path
