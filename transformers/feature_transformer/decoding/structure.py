"""What the examination of an encoded image finds, and the two ways it refuses one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.errors import ImageError


class Damaged(Exception):
    """The structure ends early or contradicts itself; the caller words the error."""


@dataclass(frozen=True)
class Structure:
    """An encoded image reduced to what its pixels need.

    Attributes:
        data: the image without metadata, further frames and whatever follows its end.
        width: columns as stored.
        height: rows as stored.
        orientation: as in EXIF, 1 to 8.
        samples: samples that decoding goes over, its work.
        working_bytes: memory that decoding needs beside the pixels themselves.
        frame: the pixels of a format that needs no decoder.
    """

    data: bytes
    width: int
    height: int
    orientation: int
    samples: int
    working_bytes: int
    frame: npt.NDArray[np.uint8] | None = None


def too_many(form: str, count: int, what: str) -> ImageError:
    """The refusal of an image in more parts than any encoder writes."""
    return ImageError(f"the {form} image has more than {count} {what}; save it anew and send that")
