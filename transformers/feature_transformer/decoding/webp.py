"""The structure of a WebP: the one chunk that holds the picture is all that is decoded.

Source: WebP Container Specification; RFC 6386, section 9.1 (VP8); WebP Lossless Bitstream
Specification, section 3 (VP8L).
"""

from __future__ import annotations

import struct

from feature_transformer.decoding.exif import UPRIGHT, orientation
from feature_transformer.decoding.limits import DecodeLimits
from feature_transformer.decoding.structure import Damaged, Structure, too_many
from foundation.errors import ImageError

_RIFF, _CHUNK = 12, 8
_ANIMATED, _HAS_EXIF = 0x02, 0x08
_VP8_START = b"\x9d\x01\x2a"
_VP8L_START = 0x2F


def size(data: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Width and height, of the canvas where there is one.

    Raises:
        Damaged: the header ends early.
        ImageError: no picture data.
    """
    kind = data[12:16]
    if kind == b"VP8X":
        if len(data) < 30:
            raise Damaged
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind not in (b"VP8 ", b"VP8L"):
        raise ImageError("the webp image holds no picture data; send a proper image")
    return _picture_size(kind, data[20:30])


def examine(data: bytes, limits: DecodeLimits) -> Structure:
    """The structure within the length that the container declares.

    Raises:
        Damaged: a chunk is cut short, or the picture is not of the declared size.
        ImageError: an animation, which has no still picture, or too many chunks.
    """
    width, height = size(data, limits)
    stop = 8 + int.from_bytes(data[4:8], "little")
    if stop > len(data):
        raise Damaged
    flags = data[20] if data[12:16] == b"VP8X" else 0
    turn, picture = UPRIGHT, b""
    at, parts = _RIFF, 0
    while at + _CHUNK <= stop:
        parts += 1
        if parts > limits.max_parts:
            raise too_many("webp", limits.max_parts, "chunks")
        kind, length = struct.unpack_from("<4sI", data, at)
        begin, end = at + _CHUNK, at + _CHUNK + length
        if end > stop:
            raise Damaged
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and flags & _ANIMATED):
            raise ImageError("the webp image is an animation; send one of its frames as a still")
        if kind in (b"VP8 ", b"VP8L") and not picture:
            if _picture_size(kind, data[begin : min(end, begin + 10)]) != (width, height):
                raise Damaged
            picture = data[at:end] + bytes(length & 1)
        elif kind == b"EXIF" and flags & _HAS_EXIF:
            turn = orientation(data[begin:end])
        at = end + (length & 1)  # chunks begin at even places
    if not picture:
        raise Damaged
    whole = struct.pack("<4sI4s", b"RIFF", 4 + len(picture), b"WEBP") + picture
    return Structure(whole, width, height, turn, 3 * width * height, 12 * width * height)


def _picture_size(kind: bytes, start: bytes) -> tuple[int, int]:
    """Width and height from the first ten bytes of the picture's chunk."""
    if kind == b"VP8L":
        if len(start) < 5 or start[0] != _VP8L_START:
            raise Damaged
        bits = int.from_bytes(start[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if len(start) < 10 or start[0] & 1 or start[3:6] != _VP8_START:  # a key frame has 0 there
        raise Damaged
    width, height = struct.unpack_from("<HH", start, 6)
    return width & 0x3FFF, height & 0x3FFF
