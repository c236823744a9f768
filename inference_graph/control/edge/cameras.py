"""Frames of a device: a camera, a network stream, a video file, or a folder of images.

A file and a folder give every frame that can be read. A camera does not wait: a thread reads it all
the time, and a slower reader gets the newest frame and the number of those it missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from feature_transformer.image import Frame, read_frame
from foundation.errors import ImageError, VideoError
from inference_graph.local_video.files import Video, opened

_RECORDING = ".wav"
_SUFFIXES = {".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp", _RECORDING}
_LOOK = 0.2
"""Seconds between two checks of whether the run has to stop, while no frame comes."""


@dataclass(frozen=True)
class Seen:
    """A frame of a camera.

    Attributes:
        frame: uint8 [height, width, 3], BGR.
        dropped: frames that passed by since the one before.
        cut: whether what was before does not belong to it: another picture, or a pause.
    """

    frame: Frame
    dropped: int = 0
    cut: bool = False


def is_live(source: str) -> bool:
    """Whether frames come by themselves: a camera's number, or an URL."""
    return source.isdecimal() or "://" in source


def camera_frames(
    source: str,
    stop: threading.Event,
    reopen_seconds: float,
    on_lost: Callable[[int], None] | None = None,
    sizes_differ: bool = False,
) -> Iterator[Seen]:
    """Frames until the source ends or the run is stopped; a live source never ends.

    Args:
        source: a camera's number, an URL that OpenCV opens (rtsp://, http://), a video file, or a
            folder of images or WAV recordings, which are read by their names' order.
        stop: set when the run shall end.
        reopen_seconds: pause before a live source that gave no frame is opened again.
        on_lost: called with the number of frames that could not be read, whenever a source ends.
        sizes_differ: whether another size in a folder does not mean another picture: documents and
            recordings of one device differ in size.

    Raises:
        VideoError: a file or folder that holds no frame, a file whose frames change their size, or
            a live source that cannot be opened at the beginning.
    """
    lost = on_lost or (lambda count: None)
    if is_live(source):
        yield from _live(source, stop, reopen_seconds, lost)
    elif Path(source).is_dir():
        yield from _folder(Path(source), stop, sizes_differ)
    elif Path(source).suffix.lower() == _RECORDING:
        yield Seen(_frame_of(Path(source)))
    else:
        yield from _file(source, stop, lost)


def _file(source: str, stop: threading.Event, lost: Callable[[int], None]) -> Iterator[Seen]:
    with opened(source) as video:
        try:
            for shown in video.frames():
                if stop.is_set():
                    return
                yield Seen(shown.frame)
        finally:
            lost(video.lost)


def _folder(folder: Path, stop: threading.Event, sizes_differ: bool) -> Iterator[Seen]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise VideoError(f"{folder} holds no jpeg, png, webp, bmp or wav; give another folder")
    shape: tuple[int, ...] | None = None
    for path in paths:
        if stop.is_set():
            return
        frame = _frame_of(path)
        other = shape is not None and frame.shape != shape
        yield Seen(frame, cut=other and not sizes_differ)
        shape = frame.shape


def _frame_of(path: Path) -> Frame:
    try:
        return read_frame(path)
    except ImageError as error:
        raise VideoError(f"{path} is no frame: {error}") from error


def _live(
    source: str, stop: threading.Event, reopen_seconds: float, lost: Callable[[int], None]
) -> Iterator[Seen]:
    cut = False
    while not stop.is_set():
        try:
            with opened(source) as video, closing(_Newest(video)) as newest:
                while (found := newest.take(stop)) is not None:
                    yield Seen(found[0], found[1], cut)
                    cut = False
                lost(video.lost)
        except VideoError as error:
            if not cut and not stop.is_set():
                raise VideoError(
                    f"{source} gives no frame; check that the camera is connected"
                ) from error
        cut = True
        stop.wait(reopen_seconds)


class _Newest:
    """The newest frame of a camera or stream, read on a thread."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._turn = threading.Condition()
        self._frame: Frame | None = video.first.frame
        self._passed = 0
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def take(self, stop: threading.Event) -> tuple[Frame, int] | None:
        """The newest frame and how many passed by; None once there will be none."""
        with self._turn:
            while self._frame is None and not self._ended and not stop.is_set():
                self._turn.wait(_LOOK)
            frame, passed, self._frame, self._passed = self._frame, self._passed, None, 0
        if frame is None or stop.is_set():
            return None
        return frame, passed

    def close(self) -> None:
        """End the thread; the video can be closed then."""
        self._ended = True
        self._thread.join()

    def _read(self) -> None:
        while not self._ended:
            shown = self._video.read()
            if shown is None:
                break
            with self._turn:
                self._passed += self._frame is not None
                self._frame = shown.frame
                self._turn.notify()
            time.sleep(0)
        with self._turn:
            self._ended = True
            self._turn.notify()
