"""A frame decoded under limits: examined before any decoder sees it, and decoded elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_transformer.decoding.header import ImageHeader, examine, read_header
from feature_transformer.decoding.limits import DecodeLimits
from feature_transformer.decoding.structure import Structure
from feature_transformer.decoding.workers import WORKERS
from feature_transformer.sound import holds_sound
from foundation.errors import ImageError
from foundation.regular_file import open_regular

__all__ = [
    "DecodeLimits",
    "ExaminedImage",
    "Frame",
    "ImageHeader",
    "check_frame",
    "decode",
    "examined",
    "read_frame",
    "read_header",
]

Frame = npt.NDArray[np.uint8]
"""uint8 [height, width, 3], BGR, the order OpenCV works in."""

_HEAVY_SAMPLES, _HEAVY_BYTES = 12_000_000, 2_000_000


@dataclass(frozen=True)
class ExaminedImage:
    """An image whose structure is sound, ready to be decoded.

    Attributes:
        structure: what the examination found.
        limits: what it was examined under.
    """

    structure: Structure
    limits: DecodeLimits

    @property
    def heavy(self) -> bool:
        """Whether decoding takes longer than a frame of a camera does: about 20 ms."""
        structure = self.structure
        return structure.samples > _HEAVY_SAMPLES or len(structure.data) > _HEAVY_BYTES

    def decode(self, deadline: float = math.inf) -> Frame:
        """The pixels, from a process of their own; blocks, so call it on a thread.

        Args:
            deadline: until when, in seconds of ``time.monotonic``; waiting for a worker counts.

        Raises:
            ImageError: it cannot be decoded, or not within the limits' own time.
            DeadlineExceeded: not until the deadline.
            Unavailable: no worker can be started.
        """
        if self.structure.frame is not None:
            return self.structure.frame
        return WORKERS.decode(self.structure, self.limits.max_seconds, deadline)


def examined(data: bytes, limits: DecodeLimits | None = None) -> ExaminedImage:
    """Examine an image that may come from anybody; no decoder sees it.

    Raises:
        ImageError: no image, a format, size or work beyond the limits, cut short, or damaged.
    """
    limits = limits or DecodeLimits()
    return ExaminedImage(examine(data, limits), limits)


def decode(data: bytes, limits: DecodeLimits | None = None) -> Frame:
    """Decode an image that may come from anybody.

    Its structure is examined before anything is decoded, and an image whose data end early is
    refused (OpenCV would fill the rest of a file with grey). EXIF rotation is applied, as
    Ultralytics does, in every format that has it; alpha is dropped, grey becomes three equal
    channels, 16 bits become 8. An animated PNG is its still picture; an animated WebP is refused.

    Args:
        data: the encoded image.
        limits: what to accept; the defaults of :class:`DecodeLimits` without it.

    Returns:
        uint8 [height, width, 3], BGR.

    Raises:
        ImageError: no image, a format or size beyond the limits, cut short, or damaged.
    """
    return examined(data, limits).decode()


def read_frame(path: Path, limits: DecodeLimits | None = None) -> Frame:
    """Decode an image file; see :func:`decode`.

    Raises:
        ImageError: the file is missing, cannot be read or is no image; the message names it.
    """
    limits = limits or DecodeLimits()
    try:
        with open_regular(path) as stream:
            # One byte more than allowed suffices to know that a file is too long.
            data = stream.read(limits.max_bytes + 1)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}; check the path") from error
    try:
        return decode(data, limits)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def check_frame(frame: npt.NDArray[Any], sound: bool | None = None) -> None:
    """Refuse an array that is no frame.

    Args:
        frame: the array.
        sound: whether it has to be a recording or a picture; either without it.

    Raises:
        ImageError: not uint8 [height, width, 3], without pixels, or of the other kind.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ImageError(
            f"a frame is {frame.dtype} {list(frame.shape)}; it must be uint8 "
            "[height, width, 3] with at least one pixel"
        )
    if sound is not None and holds_sound(frame) != sound:
        raise ImageError(
            "a picture where a recording is expected; send WAV"
            if sound
            else "a recording where a picture is expected; send a jpeg, png, webp or bmp"
        )
