"""A recording as WAV: its chunks, and its samples as a frame.

Source: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0" (RIFF),
and WAVE_FORMAT_EXTENSIBLE. Plain samples need no decoder, so none sees them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from feature_transformer.decoding.exif import UPRIGHT
from feature_transformer.decoding.limits import DecodeLimits
from feature_transformer.decoding.structure import Damaged, Structure
from feature_transformer.sound import (
    COLUMNS_PER_SECOND,
    ROWS,
    SAMPLE_RATE,
    Samples,
    as_integers,
    frame_of_sound,
    resampled,
)
from foundation.errors import ImageError

_HEADER, _CHUNK = 12, 8
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_RATES = (4_000, 384_000)
_CHANNELS = 32
_UNKNOWN = (0, 0xFFFFFFFF)
"""Length of the samples, as a program writes it that does not know where they will end."""


class _Samples(NamedTuple):
    kind: int
    channels: int
    rate: int
    bits: int
    start: int
    length: int
    """As declared, in bytes."""

    @property
    def step(self) -> int:
        return self.channels * self.bits // 8

    @property
    def columns(self) -> int:
        count = max(round(self.length // self.step * SAMPLE_RATE / self.rate), 1)
        return -(-count // ROWS)


def size(data: bytes, limits: DecodeLimits) -> tuple[int, int]:
    """Width and height of the frame: one column for each 25 ms, and 400.

    Raises:
        Damaged: the header ends early.
        ImageError: samples of a kind that is not read, or too many of them.
    """
    columns = _samples(data, limits).columns
    if columns > limits.max_sound_seconds * COLUMNS_PER_SECOND:
        raise ImageError(
            f"the recording lasts {columns / COLUMNS_PER_SECOND:.0f} s, more than the "
            f"{limits.max_sound_seconds:.0f} s allowed; send it in pieces"
        )
    return columns, ROWS


def examine(data: bytes, limits: DecodeLimits) -> Structure:
    """The structure, with the frame itself.

    Raises:
        Damaged: the samples end early.
        ImageError: samples of a kind that is not read.
    """
    found = _samples(data, limits)
    if found.start + found.length > len(data):
        raise Damaged
    stored = data[found.start : found.start + found.length // found.step * found.step]
    if found.rate == SAMPLE_RATE and found.bits == 16 and found.channels == 1:
        frame = frame_of_sound(np.frombuffer(stored, "<i2").astype(np.int16))
    else:
        channels = _values(stored, found).reshape(-1, found.channels)
        mono = channels[:, 0] if found.channels == 1 else channels.mean(axis=1, dtype=np.float32)
        frame = frame_of_sound(as_integers(resampled(mono, found.rate)))
    height, width = frame.shape[:2]
    return Structure(b"", width, height, UPRIGHT, frame.size, 0, frame)


def _values(stored: bytes, found: _Samples) -> Samples:
    if found.kind == _FLOAT:
        values = np.frombuffer(stored, "<f4" if found.bits == 32 else "<f8").astype(np.float32)
        return np.nan_to_num(values, posinf=1.0, neginf=-1.0).astype(np.float32)
    if found.bits == 8:
        return np.frombuffer(stored, np.uint8).astype(np.float32) / np.float32(128) - np.float32(1)
    if found.bits == 24:
        parts = np.frombuffer(stored, np.uint8).reshape(-1, 3).astype(np.int32)
        whole = (parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) >> 8
        return (whole / 2.0**23).astype(np.float32)
    integers = np.frombuffer(stored, f"<i{found.bits // 8}")
    return integers.astype(np.float32) / np.float32(2.0 ** (found.bits - 1))


def _samples(data: bytes, limits: DecodeLimits) -> _Samples:
    at, form = _HEADER, None
    for _ in range(limits.max_parts):
        try:
            name, length = struct.unpack_from("<4sI", data, at)
            at += _CHUNK
            if name == b"fmt ":
                form = struct.unpack_from("<HHIIHH", data, at)
                if form[0] == _EXTENSIBLE:
                    (kind,) = struct.unpack_from("<H", data, at + 24)
                    form = (kind, *form[1:])
        except struct.error as error:
            raise Damaged from error
        if name == b"data":
            if form is None:
                raise Damaged
            kind, channels, rate, _, _, bits = form
            length = len(data) - at if length in _UNKNOWN else length
            found = _Samples(kind, channels, rate, bits, at, length)
            _check(found)
            return found
        at += length + length % 2
    raise Damaged


def _check(found: _Samples) -> None:
    read = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}.get(found.kind, ())
    low, high = _RATES
    if (
        found.bits not in read
        or not low <= found.rate <= high
        or not 1 <= found.channels <= _CHANNELS
    ):
        raise ImageError(
            f"the wav recording has {found.channels} channels of {found.bits} bits at "
            f"{found.rate} Hz in format {found.kind}, which is not read; send plain PCM, "
            "such as 16 bits at 16000 Hz"
        )
    if found.length < found.step:
        raise ImageError("the wav recording has no sample; send a longer one")
