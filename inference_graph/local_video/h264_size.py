"""The picture size that an H.264 packet announces, read from its sequence parameter set.

OpenCV squeezes every frame of a stream into the size of the first one, so a change of size shows
only in the packets. Syntax: ITU-T H.264 (08/2021), 7.3.2.1.1 and, for the cropping, 7.4.2.1.1.
"""

from __future__ import annotations

import re

_SPS = 7
_START = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
_WITH_CHROMA = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_LONGEST = 4096
"""Bytes of a parameter set that are looked at; real ones have some dozens."""


def announced_size(packet: bytes) -> tuple[int, int] | None:
    """(width, height) that a packet announces; None where it has no readable parameter set.

    Args:
        packet: in Annex B form, as OpenCV gives raw packets.
    """
    for found in _START.finditer(packet):
        if found[1][0] & 31 == _SPS:
            # An encoder puts a 3 where the payload would look like the start of a unit.
            unit = packet[found.end() : found.end() + _LONGEST].replace(
                b"\x00\x00\x03", b"\x00\x00"
            )
            try:
                return _size(_Bits(unit))
            except (IndexError, OverflowError):
                return None
    return None


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def unsigned(self) -> int:
        """An Exp-Golomb number, ue(v)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise OverflowError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """An Exp-Golomb number, se(v)."""
        value = self.unsigned()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def _size(bits: _Bits) -> tuple[int, int]:
    profile = bits.take(8)
    bits.take(16)  # constraints and level
    bits.unsigned()  # its id
    chroma = 1
    planes_apart = 0
    if profile in _WITH_CHROMA:
        chroma = bits.unsigned()
        planes_apart = bits.take(1) if chroma == 3 else 0
        bits.unsigned(), bits.unsigned(), bits.take(1)  # bit depths, transform bypass
        if bits.take(1):
            _skip_scaling(bits, 8 if chroma != 3 else 12)
    bits.unsigned()  # length of frame numbers
    _skip_order(bits)
    bits.unsigned(), bits.take(1)  # reference frames, gaps
    wide, high = bits.unsigned() + 1, bits.unsigned() + 1
    frames_only = bits.take(1)
    if not frames_only:
        bits.take(1)
    bits.take(1)
    width, height = wide * 16, high * 16 * (2 - frames_only)
    if bits.take(1):
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        whole = chroma == 0 or planes_apart
        across = 1 if whole or chroma == 3 else 2
        down = (1 if whole or chroma != 1 else 2) * (2 - frames_only)
        width, height = width - across * (left + right), height - down * (top + bottom)
    return width, height


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for number in range(lists):
        if not bits.take(1):
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                following = (last + bits.signed()) % 256
            last = following or last


def _skip_order(bits: _Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()
    elif kind == 1:
        bits.take(1), bits.signed(), bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()
