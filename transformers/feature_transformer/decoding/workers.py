"""Decoding in processes of their own: what a native decoder does to one ends with one image.

A decoder that crashes, takes memory or never returns costs its image; the worker is ended and
the next one forked within milliseconds. Pixels come back in shared memory.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from feature_transformer.decoding import worker as worker_program
from feature_transformer.decoding.exif import swaps_sides
from feature_transformer.decoding.structure import Structure
from feature_transformer.decoding.worker import DONE, END, FORK, ORDER, PID
from foundation.errors import DeadlineExceeded, ImageError, Unavailable

_KEPT_BYTES = 8 * 1024 * 1024
"""Memory that a worker shares for good; more is given back after the image that took it."""
_KEPT_WORKERS = 4
_SLACK_BYTES = 64 * 1024 * 1024
"""Memory beside pixels and tables: buffers of the decoders and of Python."""
_START_SECONDS = 120.0
"""OpenCV is imported in 0.2 s, on a machine that does much else in some more."""
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "PYTHONDONTWRITEBYTECODE", "TMPDIR")
_SETTINGS = {
    # Its only work is on one core, and threads of a library would not survive a fork.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # The C library keeps the memory of a frame for the next one: new pages take half a millisecond.
    "MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 1024 * 1024),
}


class _Lost(Exception):
    """A worker, or the program that forks them, ended or does not answer."""


class DecodingWorkers:
    """Workers as they are needed: as many as threads decode at once. Threads may share it."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self.forget()

    def forget(self) -> None:
        """Begin anew in a process that was forked: the workers are its parent's."""
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._forking = threading.Lock()
        self._forker: _Forker | None = None

    def decode(
        self, picture: Structure, seconds: float, deadline: float = math.inf
    ) -> npt.NDArray[np.uint8]:
        """The pixels of an examined image, upright; blocks, so call it on a thread.

        Args:
            picture: what the examination found.
            seconds: what decoding itself may take; more is the image's fault.
            deadline: until when, in seconds of ``time.monotonic``; waiting for a worker counts.

        Returns:
            uint8 [height, width, 3], BGR.

        Raises:
            ImageError: the decoder refuses it, ends on it, or takes more than it may.
            DeadlineExceeded: not decoded until the deadline.
            Unavailable: no worker can be started.
        """
        try:
            return self._decode(picture, seconds, deadline, fresh=False)
        except _Lost:
            pass  # another process may have ended it: a second failure counts
        try:
            return self._decode(picture, seconds, deadline, fresh=True)
        except _Lost as error:
            raise ImageError(
                f"the image of {picture.width}x{picture.height} pixels ended its decoder; its "
                "data are damaged"
            ) from error

    def start(self) -> None:
        """Have a worker ready, so that the first image does not wait for it.

        Raises:
            Unavailable: none starts.
        """
        with self._lock:
            if self._idle:
                return
        worker = self._new()
        try:
            worker.wait(_START_SECONDS)
        except OSError as error:
            self._end(worker)
            raise _none_starts(error) from error
        self._keep(worker)

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()
        with self._forking:
            if self._forker is not None:
                self._forker.close()
            self._forker = None

    def _decode(
        self, picture: Structure, seconds: float, deadline: float, fresh: bool
    ) -> npt.NDArray[np.uint8]:
        worker = None if fresh else self._take()
        worker = worker or self._new()
        try:
            worker.wait(min(_START_SECONDS, deadline - time.monotonic()))
            frame = worker.decode(picture, min(seconds, deadline - time.monotonic()))
        except TimeoutError as error:
            self._end(worker)
            raise self._late(picture, seconds, deadline, worker) from error
        except OSError as error:
            self._end(worker)
            raise _Lost from error
        except BaseException:
            self._end(worker)
            raise
        self._keep(worker)
        if frame is not None:
            return frame
        raise ImageError(
            f"the image of {picture.width}x{picture.height} pixels cannot be decoded; its data are "
            "damaged"
        )

    @staticmethod
    def _late(
        picture: Structure, seconds: float, deadline: float, worker: _Worker
    ) -> DeadlineExceeded | Unavailable | ImageError:
        if time.monotonic() >= deadline:
            return DeadlineExceeded(
                "the image was not decoded in time; send a smaller one, or fewer at once"
            )
        if worker.pid is None:
            return Unavailable(f"no decoder started within {_START_SECONDS:g} s; try again later")
        return ImageError(
            f"the image of {picture.width}x{picture.height} pixels takes more than {seconds:g} s "
            "to decode; send a smaller one"
        )

    def _take(self) -> _Worker | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _keep(self, worker: _Worker) -> None:
        with self._lock:
            if len(self._idle) < _KEPT_WORKERS:
                self._idle.append(worker)
                return
        worker.close()

    def _new(self) -> _Worker:
        with self._forking:
            try:
                if self._forker is not None and self._forker.fails:
                    self._forker.close()
                    self._forker = None
                self._forker = self._forker or _Forker()
                return self._forker.fork()
            except OSError as error:
                raise _none_starts(error) from error

    def _end(self, worker: _Worker) -> None:
        with self._forking:
            if self._forker is not None and worker.pid is not None:
                self._forker.end(worker.pid)
        worker.close()


def _none_starts(error: OSError) -> Unavailable:
    return Unavailable(f"no decoder can be started ({error}); try again in a moment")


class _Forker:
    """The program of :mod:`feature_transformer.decoding.worker`, which forks workers."""

    def __init__(self) -> None:
        self._control, other = socket.socketpair()
        self._control.settimeout(1.0)
        self._waits_since: float | None = None
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", worker_program.__name__, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(other.fileno(),),
                env=_environment(),
            )

    @property
    def fails(self) -> bool:
        """Whether it has ended, or has long not answered."""
        since = self._waits_since
        late = since is not None and time.monotonic() - since > _START_SECONDS
        return late or self._process.poll() is not None

    def fork(self) -> _Worker:
        """A new worker, which need not be there yet.

        Raises:
            OSError: the program has ended, or a limit of this process is reached.
        """
        channel, other = socket.socketpair()
        with other:
            try:
                memory = _shared_file()
                try:
                    os.ftruncate(memory, _KEPT_BYTES)
                    socket.send_fds(self._control, [FORK], [other.fileno(), memory])
                    self._waits_since = self._waits_since or time.monotonic()
                    return _Worker(channel, mmap.mmap(memory, _KEPT_BYTES), self._answered)
                finally:
                    os.close(memory)
            except BaseException:
                channel.close()
                raise

    def end(self, pid: int) -> None:
        """End a worker, whatever it does."""
        with contextlib.suppress(OSError):
            self._control.sendall(END + PID.pack(pid))

    def close(self) -> None:
        """End the program; its workers end when their channels do."""
        self._control.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answered(self) -> None:
        self._waits_since = None


def _environment() -> dict[str, str]:
    """What Python needs to start; tokens and passwords are nothing for a decoder to see."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**kept, "PYTHONPATH": paths, **_SETTINGS}


class _Worker:
    """One process that decodes one image at a time.

    Attributes:
        pid: its number; None until it answers.
    """

    def __init__(
        self, channel: socket.socket, memory: mmap.mmap, answered: Callable[[], None]
    ) -> None:
        self.pid: int | None = None
        self._channel = channel
        self._memory = memory
        self._answered = answered

    def wait(self, seconds: float) -> None:
        """Wait until it is there.

        Raises:
            TimeoutError: it does not come in time.
            OSError: it has ended.
        """
        if seconds <= 0:
            raise TimeoutError
        if self.pid is None:
            self._channel.settimeout(seconds)
            self.pid = PID.unpack(self._received(PID.size))[0]
            self._answered()

    def decode(self, picture: Structure, seconds: float) -> npt.NDArray[np.uint8] | None:
        """The pixels of an image; None if its decoder refuses it.

        Raises:
            TimeoutError: not done in time.
            OSError: the process has ended.
        """
        if seconds <= 0:
            raise TimeoutError
        height, width = picture.height, picture.width
        length = len(picture.data)
        place = -(-length // 64) * 64
        pixels = 3 * height * width
        size = -(-max(place + pixels, _KEPT_BYTES) // mmap.PAGESIZE) * mmap.PAGESIZE
        if size > _KEPT_BYTES:
            self._memory.resize(size)
        self._memory[:length] = picture.data
        self._channel.settimeout(seconds)
        self._channel.sendall(
            ORDER.pack(
                size,
                length,
                place,
                height,
                width,
                picture.orientation,
                pixels + picture.working_bytes + _SLACK_BYTES,
                math.ceil(seconds),
            )
        )
        frame: npt.NDArray[np.uint8] | None = None
        if self._received(1) == DONE:
            sides = (width, height) if swaps_sides(picture.orientation) else (height, width)
            frame = np.ndarray((*sides, 3), np.uint8, self._memory, place).copy()
        if size > _KEPT_BYTES:
            self._memory.resize(_KEPT_BYTES)
        return frame

    def close(self) -> None:
        """Let it end, once it has nothing to do."""
        self._channel.close()
        self._memory.close()

    def _received(self, count: int) -> bytes:
        data = self._channel.recv(count, socket.MSG_WAITALL)
        if len(data) < count:
            raise ConnectionResetError("the decoder has ended")
        return data


def _shared_file() -> int:
    """A file in memory that no path leads to."""
    if sys.platform == "linux":
        return os.memfd_create("pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


WORKERS = DecodingWorkers()
"""Those of this process."""
atexit.register(WORKERS.close)
os.register_at_fork(after_in_child=WORKERS.forget)
