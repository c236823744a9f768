"""A frame decoded under limits: the header is read before a single pixel is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from feature_transformer.errors import ImageError
from feature_transformer.image_header import ImageHeader, is_complete, read_header

__all__ = [
    "DecodeLimits",
    "Frame",
    "ImageHeader",
    "check_frame",
    "decode",
    "read_frame",
    "read_header",
]

Frame = npt.NDArray[np.uint8]
"""uint8 [height, width, 3], BGR, the order OpenCV works in."""


@dataclass(frozen=True)
class DecodeLimits:
    """What is decoded at most.

    Attributes:
        max_bytes: length of the encoded image in bytes.
        max_pixels: width times height declared in its header.
        formats: formats accepted, of jpeg, png, webp and bmp.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 40_000_000
    formats: tuple[str, ...] = ("jpeg", "png", "webp", "bmp")


def decode(data: bytes, limits: DecodeLimits | None = None) -> Frame:
    """Decode an image that may come from anybody.

    Sizes are checked before decoding, and an image whose data end early is refused (OpenCV's
    ``imread`` would fill the rest with grey). EXIF rotation is applied, as Ultralytics
    does; alpha is dropped, grey becomes three equal channels, 16 bits become 8.

    Args:
        data: the encoded image.
        limits: what to accept; the defaults of :class:`DecodeLimits` without it.

    Returns:
        uint8 [height, width, 3], BGR.

    Raises:
        ImageError: no image, a format or size beyond the limits, cut short, or damaged.
    """
    limits = limits or DecodeLimits()
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"the image has {len(data)} bytes, more than the {limits.max_bytes} allowed; "
            "send a smaller one"
        )
    header = read_header(data)
    if header.format not in limits.formats:
        raise ImageError(
            f"{header.format} images are not accepted here; send {', '.join(limits.formats)}"
        )
    if header.width * header.height > limits.max_pixels:
        raise ImageError(
            f"the image declares {header.width}x{header.height} pixels, more than the "
            f"{limits.max_pixels} allowed; send a smaller one"
        )
    if not is_complete(header.format, data):
        raise ImageError(
            f"the {header.format} image of {header.width}x{header.height} pixels is cut short "
            f"or damaged ({len(data)} bytes); send it whole"
        )
    try:
        frame: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        frame = None
    stored = {header.width, header.height}
    if frame is None or {frame.shape[0], frame.shape[1]} != stored:
        raise ImageError(
            f"the {header.format} image of {header.width}x{header.height} pixels cannot be "
            "decoded; its data are damaged"
        )
    return np.asarray(frame, np.uint8)


def read_frame(path: Path, limits: DecodeLimits | None = None) -> Frame:
    """Decode an image file; see :func:`decode`.

    Raises:
        ImageError: the file is missing, cannot be read or is no image; the message names it.
    """
    limits = limits or DecodeLimits()
    try:
        with Path(path).open("rb") as stream:
            # One byte more than allowed suffices to know that a file is too long.
            data = stream.read(limits.max_bytes + 1)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}; check the path") from error
    try:
        return decode(data, limits)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def check_frame(frame: npt.NDArray[Any]) -> None:
    """Refuse an array that is no frame.

    Raises:
        ImageError: not uint8 [height, width, 3], or without pixels.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ImageError(
            f"a frame is {frame.dtype} {list(frame.shape)}; it must be uint8 "
            "[height, width, 3] with at least one pixel"
        )
