"""Writing a video that is known to be whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import cv2

from feature_transformer.image import Frame
from foundation.errors import StorageError

_LARGEST = 65_535
"""Of MPEG-4 part 2, for the denominator of the time base."""


def writable_rate(fps: float) -> float:
    """The rate nearest to ``fps`` that an MPEG-4 file can have.

    OpenCV gives the rate to the encoder as a fraction of up to three decimals, and the encoder
    refuses a numerator above 65535: 105.611 becomes 105.61, 36 ms in an hour.
    """
    for decimals in (3, 2, 1):
        rate = Fraction(round(fps * 10**decimals), 10**decimals)
        if 0 < rate.numerator <= _LARGEST:
            return float(rate)
    return float(min(max(round(fps), 1), _LARGEST))


class Mp4Writer:
    """A video file being written; OpenCV reports no failure, so the result is read back."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """Open the file.

        Args:
            path: an mp4 file.
            fps: frames per second; written as near to it as the format allows.
            size: (height, width) of every frame, both even.

        Raises:
            StorageError: it cannot be opened for writing.
        """
        self.path = path
        self.count = 0
        height, width = size
        self.writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter.fourcc(*"mp4v"), writable_rate(fps), (width, height)
        )
        if not self.writer.isOpened():
            raise StorageError(f"cannot write a video into {path.parent}; choose another place")

    def write(self, canvas: Frame) -> None:
        """Add one frame, uint8 [height, width, 3], BGR."""
        self.writer.write(canvas)
        self.count += 1

    def finish(self) -> None:
        """Close the file and prove that every frame is in it.

        Raises:
            StorageError: frames are missing, as on a full disk.
        """
        self.writer.release()
        check = cv2.VideoCapture(str(self.path))
        written = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if written != self.count:
            raise StorageError(
                f"only {written} of {self.count} frames reached the video in {self.path.parent}; "
                "the disk may be full: free some space and run it again"
            )


@contextmanager
def mp4_writer(path: Path, fps: float, size: tuple[int, int]) -> Iterator[Mp4Writer]:
    """A video being written; finished when the block ends well, closed when it fails.

    Raises:
        StorageError: see :class:`Mp4Writer`.
    """
    video = Mp4Writer(path, fps, size)
    try:
        yield video
    except BaseException:
        video.writer.release()
        raise
    video.finish()
