"""Reading any video OpenCV opens, upright and with its times, and what of it is lost."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from feature_transformer.image import Frame
from foundation.errors import VideoError
from inference_graph.local_video.h264_size import announced_size

_TRIES, _TRIES_LIVE = 64, 3
"""Reads in a row that may fail before a file, or a stream, is taken for ended."""
_ESTIMATE = 0.02
"""Share of the frames by which a container that keeps no count may be wrong."""
_STEADY = 0.7
"""Share of the intervals that are the usual one, where a video has a rate."""


@dataclass(frozen=True)
class Shown:
    """A frame of a video.

    Attributes:
        frame: uint8 [height, width, 3], BGR, upright.
        seconds: its time stamp in the container, from the first frame on; 0 where there is none.
    """

    frame: Frame
    seconds: float


class Video:
    """A video, a network stream or a camera, read frame by frame.

    A read that fails is not taken for the end: a damaged frame is passed over and counted.

    Attributes:
        source: what it was opened as.
        first: its first frame.
        fps: frames per second, 25 where the video has none; the mean where the rate varies.
        expected: frames that the container declares; None when it is unknown.
    """

    def __init__(self, source: str, capture: cv2.VideoCapture) -> None:
        """Read the first frame.

        Args:
            source: a file, an URL or a camera's number.
            capture: it, opened; released by whoever opened it.

        Raises:
            VideoError: it holds no frame.
        """
        self.source, self._capture = source, capture
        # OpenCV's default differs between its versions and backends; not all have it.
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self._on_disk = "://" not in source and not source.isdecimal()
        self._sizes = _Sizes(source, capture) if self._on_disk else None
        self._failed = self._delivered = 0
        self._times = array("d")
        self._ended = False
        shown = self.read()
        if shown is None or not shown.frame.size:
            raise VideoError(f"the video {source} holds no frame that can be read; check the file")
        self.first = shown
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        # Streams and broken headers hold 0 or nonsense.
        self.fps = rate if 0 < rate <= 1000 else 25.0
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.expected = count if 0 < count < 1 << 31 else None

    @property
    def lost(self) -> int:
        """Frames that could not be read so far; once it has ended, all that the container lists."""
        if not self._ended or self.expected is None:
            return self._failed
        missing = self.expected - self._delivered
        if missing <= _ESTIMATE * self.expected:
            return self._failed
        # Containers without a count have an estimate here, far too high where the rate varies.
        packets = _packets(self.source) if self._on_disk else None
        if packets is None:
            return max(self._failed, missing)
        times = np.asarray(self._times)
        # The last frame is shown as long as any other may be.
        shown = times[-1] + np.max(np.diff(times), initial=1 / self.fps)
        cut_off = max(0, round(self.expected - shown * self.fps))
        absent = min(missing, cut_off + _gaps(times))
        return max(self._failed, packets - self._delivered, absent)

    def read(self) -> Shown | None:
        """The next frame that can be read; None once there will be none.

        Raises:
            VideoError: the size changes within a file, where OpenCV would squeeze what follows
                into the size before.
        """
        for failed in range(_TRIES if self._on_disk else _TRIES_LIVE):
            got, frame = False, None
            with contextlib.suppress(cv2.error):
                got, frame = self._capture.read()
            if got and frame is not None:
                self._failed += failed
                if self._sizes is not None:
                    self._sizes.check(self._delivered)
                self._delivered += 1
                seconds = max(float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3, 0.0)
                if self._on_disk:
                    self._times.append(seconds)
                return Shown(np.asarray(frame, np.uint8), seconds)
        self._ended = True
        return None

    def frames(self, limit: int | None = None) -> Iterator[Shown]:
        """The first frame and those after it, at most ``limit`` in all.

        Raises:
            VideoError: a frame of another size; detections and drawing assume one.
        """
        shown: Shown | None = self.first
        count = 0
        size = self.first.frame.shape
        while shown is not None:
            if shown.frame.shape != size:
                raise _changes(self.source, count, shown.frame.shape[1::-1], size[1::-1])
            yield shown
            count += 1
            shown = None if count == limit else self.read()

    def expects(self, limit: int | None) -> int | None:
        """How many frames to expect, for progress only; None when it is unknown."""
        return self.expected if limit is None else min(limit, self.expected or limit)


@contextmanager
def opened(source: str) -> Iterator[Video]:
    """A video opened for reading; it is closed when the block ends.

    Args:
        source: a file, an URL or a camera's number.

    Raises:
        VideoError: it does not exist, is no video, or holds no frame.
    """
    camera = source.isdecimal()
    if not camera and "://" not in source and not Path(source).is_file():
        if Path(source).is_dir():
            raise VideoError(f"{source} is a folder; name a video in it")
        raise VideoError(f"there is no video {source}; check the path")
    if Path(source).is_file() and not Path(source).stat().st_size:
        raise VideoError(f"the video {source} is empty; copy or record it again")
    try:
        capture = cv2.VideoCapture(int(source) if camera else source)
    except cv2.error as error:
        raise VideoError(f"cannot open the video {source}: {error.err}") from error
    try:
        if camera and not capture.isOpened():
            raise VideoError(f"camera {source} gives no frame; check that it is connected")
        if not capture.isOpened():
            raise VideoError(
                f"cannot open the video {source}: no format OpenCV reads; convert it to mp4"
            )
        yield Video(source, capture)
    finally:
        capture.release()


def _gaps(times: NDArray[np.float64]) -> int:
    """How many frames are absent between others; 0 where no rate is kept."""
    intervals = np.diff(times)
    usual = float(np.median(intervals)) if len(intervals) else 0.0
    if usual <= 0 or np.mean(np.abs(intervals - usual) < 0.1 * usual) < _STEADY:
        return 0
    return int(np.maximum(np.round(intervals / usual) - 1, 0).sum())


def _packets(source: str) -> int | None:
    """How many frames a file has, decoded or not; None where it cannot be read that way."""
    capture = cv2.VideoCapture()
    with contextlib.suppress(cv2.error):
        capture.open(source, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    count = 0
    while capture.isOpened() and capture.grab():
        count += 1
    capture.release()
    return count or None


class _Sizes:
    """The sizes that an H.264 file announces, packet by packet beside its frames."""

    def __init__(self, source: str, capture: cv2.VideoCapture) -> None:
        code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        self._source, self._size, self._count = source, (0, 0), 0
        self._packets = cv2.VideoCapture()
        if code.lower() in (b"h264", b"avc1", b"x264"):
            with contextlib.suppress(cv2.error):
                self._packets.open(source, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])

    def check(self, number: int) -> None:
        """Raise VideoError where the frame of this number has another size than those before."""
        while self._packets.isOpened() and self._count <= number:
            got, packet = self._packets.read()
            if not got or packet is None:
                self._packets.release()
                return
            found = announced_size(packet.tobytes())
            if found is not None and self._size not in ((0, 0), found):
                raise _changes(self._source, self._count, found, self._size)
            self._size = found or self._size
            self._count += 1


def _changes(
    source: str, number: int, size: tuple[int, ...], before: tuple[int, ...]
) -> VideoError:
    return VideoError(
        f"frame {number} of {source} is {size[0]}x{size[1]}, those before "
        f"{before[0]}x{before[1]}; cut the video where its size changes"
    )
