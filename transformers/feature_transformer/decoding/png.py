"""The structure of a PNG: its chunks are checked and counted before it is decoded.

Only the chunks that pixels need reach the decoder, so an animation (acTL, fcTL, fdAT) is its still
picture, and no profile or text is ever unpacked. Source: W3C, PNG Specification, third edition.
"""

from __future__ import annotations

import struct
import zlib

from feature_transformer.decoding.exif import UPRIGHT, orientation
from feature_transformer.decoding.limits import DecodeLimits
from feature_transformer.decoding.structure import Damaged, Structure, too_many
from foundation.errors import ImageError

_MAGIC = 8
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row, and steps, of each pass of an interlaced image."""
_DEFLATE_MOST = 1032
"""Bytes that a byte of deflate can stand for (RFC 1951: 258 for 2 bits)."""


def size(data: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Width and height.

    Raises:
        Damaged: the header ends early.
        ImageError: the file begins with something else.
    """
    try:
        kind, width, height = struct.unpack_from(">4sII", data, 12)
    except struct.error as error:
        raise Damaged from error
    if kind != b"IHDR":
        raise ImageError("the png image does not begin with its header; send a proper image")
    return width, height


def examine(data: bytes, limits: DecodeLimits) -> Structure:
    """The structure up to IEND; every chunk has the checksum that it declares.

    Raises:
        Damaged: a chunk that is cut short, changed, unknown though it matters, or out of place.
        ImageError: too many chunks, or a header of a kind that there is none of.
    """
    width, height = size(data, limits)
    view = memoryview(data)
    pieces: list[bytes | memoryview] = [view[:_MAGIC]]
    turn, packed, before, palette = UPRIGHT, 0, b"", False
    raw = _unpacked_bytes(data)
    at = _MAGIC
    for _ in range(limits.max_parts):
        if at + 12 > len(data):
            raise Damaged
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(
            view[end - 4 : end]
        ):
            raise Damaged
        if kind == b"IDAT":
            if packed and before != kind:
                raise Damaged
            packed += length
        elif kind == b"PLTE":
            if palette or packed or not length or length % 3 or length > 3 * 256:
                raise Damaged
            palette = True
        elif kind == b"IEND":
            break
        elif kind == b"eXIf":
            turn = orientation(data[at + 8 : end - 4])
        elif not kind[0] & 0x20 and (kind != b"IHDR" or at != _MAGIC):
            raise Damaged  # a chunk that matters and is not known
        if not kind[0] & 0x20:
            pieces.append(view[at:end])
        at, before = end, kind
    else:
        raise too_many("png", limits.max_parts, "chunks")
    pieces.append(view[at:end])
    if not packed or (data[25] == _PALETTE and not palette):
        raise Damaged
    if packed * _DEFLATE_MOST < raw or packed > 2 * raw + 65_536:
        raise ImageError(
            f"the png image of {width}x{height} pixels cannot be decoded; its {packed} bytes of "
            "data do not fit its size"
        )
    # OpenCV unpacks to 16 bits and four channels before it makes 8 bits and three of them.
    return Structure(b"".join(pieces), width, height, turn, raw, 16 * width * height)


def _unpacked_bytes(data: bytes) -> int:
    """Length of the rows that the header declares, each with its filter byte."""
    if len(data) < 29 or data[8:12] != b"\x00\x00\x00\x0d":
        raise Damaged
    width, height, depth, colour, compression, filters, interlace = struct.unpack_from(
        ">IIBBBBB", data, 16
    )
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise ImageError(
            f"the png image has colour type {colour} with {depth} bits, which there is not; send "
            "a proper image"
        )
    bits = depth * _CHANNELS[colour]
    total = 0
    for column, row, across, down in _ADAM7 if interlace else _WHOLE:
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total
