"""Reading any video OpenCV opens, and writing one that is known to be whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from feature_transformer.errors import StorageError, VideoError
from feature_transformer.image import Frame


@contextmanager
def opened(source: str) -> Iterator[tuple[cv2.VideoCapture, Frame]]:
    """A video opened for reading; it is closed when the block ends.

    Args:
        source: a file or an URL.

    Yields:
        The open video and its first frame, uint8 [height, width, 3], BGR.

    Raises:
        VideoError: it does not exist, is no video, or holds no frame.
    """
    if "://" not in source and not Path(source).is_file():
        raise VideoError(f"there is no video {source}; check the path")
    try:
        capture = cv2.VideoCapture(source)
    except cv2.error as error:
        raise VideoError(f"cannot open the video {source}: {error.err}") from error
    try:
        if not capture.isOpened():
            raise VideoError(
                f"cannot open the video {source}: no format OpenCV reads; convert it to mp4"
            )
        got, frame = capture.read()
        if not got or not frame.size:
            raise VideoError(f"the video {source} holds no frame that can be read; check the file")
        yield capture, np.asarray(frame, np.uint8)
    finally:
        capture.release()


def frames(
    capture: cv2.VideoCapture, first: Frame, source: str, limit: int | None
) -> Iterator[Frame]:
    """The first frame and those after it, at most ``limit`` in all.

    Raises:
        VideoError: a frame of another size; detections and drawing assume one.
    """
    frame: Any = first
    count = 0
    got = True
    while got and (limit is None or count < limit):
        if frame.shape != first.shape:
            raise VideoError(
                f"frame {count} of {source} is {frame.shape[1]}x{frame.shape[0]}, those before "
                f"{first.shape[1]}x{first.shape[0]}; cut the video where its size changes"
            )
        yield np.asarray(frame, np.uint8)
        count += 1
        got, frame = capture.read()


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames per second, 25 where the video does not say."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0 < fps <= 1000 else 25.0  # streams and broken headers say 0 or nonsense


def expected_frames(capture: cv2.VideoCapture, limit: int | None) -> int | None:
    """How many frames to expect, for progress only; None when nobody knows."""
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    known = count if 0 < count < 1 << 31 else None
    return known if limit is None else min(limit, known or limit)


class Mp4Writer:
    """A video file being written; OpenCV reports no failure, so the result is read back."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """Open the file.

        Args:
            path: an mp4 file.
            fps: frames per second.
            size: (height, width) of every frame, both even.

        Raises:
            StorageError: it cannot be opened for writing.
        """
        self.path = path
        self.count = 0
        height, width = size
        self.writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height)
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
