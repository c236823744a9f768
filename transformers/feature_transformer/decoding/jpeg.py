"""The structure of a JPEG: its segments are counted and its work is bound before it is decoded.

Source: ITU-T T.81, annexes B (markers), A.2 (scans and blocks) and F, G (codes of a block).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from feature_transformer.decoding.exif import UPRIGHT, orientation
from feature_transformer.decoding.limits import DecodeLimits
from feature_transformer.decoding.structure import Damaged, Structure, too_many
from foundation.errors import ImageError

_SOI, _EOI, _SOS, _DHT, _DQT, _DRI, _DAC = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xCC
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN, _PROGRESSIVE = frozenset((0xC0, 0xC1, 0xC2)), frozenset((0xC2, 0xCA))
_DECODED = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
"""Baseline, extended and progressive, by Huffman's or by arithmetic codes; not lossless ones, nor
those of a hierarchy, which cameras and browsers do not write."""
_ALONE = frozenset((0x01, *range(0xD0, 0xDA)))
"""Markers without a length."""
_MARKER = re.compile(rb"\xff++[^\x00\xff]")
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""The next marker after entropy-coded data: FF00 is a stuffed byte, FFD0..FFD7 restart marks."""
_BLOCK = 64


class _Segment(NamedTuple):
    marker: int
    start: int
    end: int


@dataclass(frozen=True)
class _Frame:
    """A frame header: its size, and the blocks of each component by its identifier."""

    marker: int
    width: int
    height: int
    blocks: dict[int, int]


def size(data: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Width and height.

    Raises:
        Damaged: the header ends early.
        ImageError: none, or too many segments before it.
    """
    for segment in _segments(data, limits.max_parts):
        if segment.marker in _FRAMES:
            return _declared(data, segment)
        if segment.marker in (_SOS, _EOI):
            raise ImageError("the jpeg image has no size before its data; send a proper image")
    raise Damaged


def examine(data: bytes, limits: DecodeLimits) -> Structure:
    """The structure up to the end of the image; bytes after it do not matter.

    Thumbnails inside EXIF have an end marker of their own, so a search from behind is no proof.

    Raises:
        Damaged: the segments do not lead there, or contradict each other.
        ImageError: a kind of jpeg that is not decoded, or more work than its pixels are worth.
    """
    frame: _Frame | None = None
    turn = UPRIGHT
    has_exif = False
    scans = samples = 0
    pieces: list[bytes | memoryview] = [b"\xff\xd8"]
    view = memoryview(data)
    for segment in _segments(data, limits.max_parts):
        marker, start, end = segment
        if marker in _FRAMES:
            if frame is not None:
                raise Damaged
            frame = _frame(data, segment)
        elif marker == _SOS:
            if frame is None:
                raise Damaged
            scans += 1
            if scans > limits.max_scans:
                raise too_many("jpeg", limits.max_scans, "scans")
            blocks, header = _scanned(data, start, frame)
            samples += blocks * _BLOCK
            if samples > limits.max_passes * frame.width * frame.height + 4 * _BLOCK * _BLOCK:
                raise ImageError(
                    f"the jpeg image of {frame.width}x{frame.height} pixels has {scans} scans or "
                    "more, which take too much time for so few pixels; save it anew and send that"
                )
            if end - start - header < _least_bytes(frame, blocks, scans):
                raise Damaged
        elif marker == _EOI:
            break
        elif marker == _APP1 and not has_exif and data.startswith(b"Exif\x00\x00", start + 2):
            turn, has_exif = orientation(data[start + 2 : end]), True
            continue
        elif not _is_kept(data, segment):
            continue
        pieces += (bytes((0xFF, marker)), view[start:end])
    else:
        raise Damaged
    if frame is None or not scans:
        raise Damaged
    pieces.append(b"\xff\xd9")
    whole = frame.marker not in _PROGRESSIVE and scans == 1
    coefficients = 0 if whole else 2 * _BLOCK * sum(frame.blocks.values())
    return Structure(
        b"".join(pieces), frame.width, frame.height, turn, max(samples, 1), coefficients
    )


def _segments(data: bytes, most: int) -> Iterator[_Segment]:
    """Every marker with what belongs to it: for a scan its header and its data."""
    at = 2
    for _ in range(most):
        found = _MARKER.match(data, at)
        if found is None:
            raise Damaged
        start = found.end()
        marker = data[start - 1]
        if marker in _ALONE:
            at = start
        else:
            at = start + int.from_bytes(data[start : start + 2])
            # A header that is read for its size alone may be followed by nothing.
            if not start + 2 <= at <= len(data) and not (
                marker in _FRAMES and start + 8 <= len(data)
            ):
                raise Damaged
            if marker == _SOS:
                stop = _SCAN_END.search(data, at)
                if stop is None:
                    raise Damaged
                at = stop.start()
        yield _Segment(marker, start, at)
    raise too_many("jpeg", most, "segments")


def _declared(data: bytes, segment: _Segment) -> tuple[int, int]:
    try:
        height, width = struct.unpack_from(">HH", data, segment.start + 3)
    except struct.error as error:
        raise Damaged from error
    return width, height


def _frame(data: bytes, segment: _Segment) -> _Frame:
    body = data[segment.start + 2 : segment.end]
    if len(body) < 6 or segment.end > len(data):
        raise Damaged
    if segment.marker not in _DECODED:
        raise ImageError(
            "the jpeg image is lossless or hierarchical, which is not decoded; send a baseline or "
            "progressive one"
        )
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    if precision != 8:
        raise ImageError(f"the jpeg image has {precision} bits a sample; send one of 8 bits")
    if count not in (1, 3, 4) or len(body) != 6 + 3 * count:
        raise Damaged
    parts = {body[at]: divmod(body[at + 1], 16) for at in range(6, len(body), 3)}
    if len(parts) != count or any(not 1 <= h <= 4 or not 1 <= v <= 4 for h, v in parts.values()):
        raise Damaged
    widest, tallest = (max(side) for side in zip(*parts.values(), strict=True))
    blocks = {
        name: -(-width * h // (8 * widest)) * -(-height * v // (8 * tallest))
        for name, (h, v) in parts.items()
    }
    return _Frame(segment.marker, width, height, blocks)


def _scanned(data: bytes, start: int, frame: _Frame) -> tuple[int, int]:
    """Blocks that a scan goes over, and the length of its header."""
    count = data[start + 2] if start + 2 < len(data) else 0
    length = int.from_bytes(data[start : start + 2])
    names = data[start + 3 : start + 3 + 2 * count : 2]
    if not 1 <= count <= 4 or length != 6 + 2 * count or not frame.blocks.keys() >= set(names):
        raise Damaged
    return sum(frame.blocks[name] for name in names), length


def _least_bytes(frame: _Frame, blocks: int, scans: int) -> int:
    """Bytes that a scan has at least: a code has a bit or more.

    In a sequential scan each block has a code for its mean and one that ends it; in the first
    scan of a progressive image only the first. Arithmetic codes can be shorter than a bit.
    """
    if frame.marker not in _HUFFMAN or (frame.marker in _PROGRESSIVE and scans > 1):
        return 0
    return blocks * (1 if frame.marker in _PROGRESSIVE else 2) // 8


def _is_kept(data: bytes, segment: _Segment) -> bool:
    """Whether a segment matters to the pixels: tables, and markers of the colour space."""
    marker = segment.marker
    if marker in (_DHT, _DQT, _DRI, _DAC):
        return True
    if marker in _ALONE:
        if marker == _SOI:
            raise Damaged
        return False
    body = data[segment.start + 2 : segment.start + 7]
    return (marker == _APP0 and body == b"JFIF\x00") or (marker == _APP14 and body == b"Adobe")
