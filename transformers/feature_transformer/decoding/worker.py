"""The program that decodes: it forks a worker for each asked for, and sees no image itself.

Started by :mod:`feature_transformer.decoding.workers`. A worker ends without harm to others: it
has no file but its channel and a piece of memory, and may open none; its memory and its time on a
core are limited for each image anew. It imports OpenCV once, so the next worker is there within
milliseconds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path

import cv2
import numpy as np

from feature_transformer.decoding.exif import turned

FORK, END = b"+", b"-"
PID = struct.Struct("<i")
ORDER = struct.Struct("<QQQIIBQI")
"""Bytes of the memory, of the image in it, place of the pixels, height and width as stored,
orientation, bytes of memory and seconds on a core that decoding may take."""
DONE, NO_PICTURE = b"d", b"n"


def main() -> None:
    """Fork workers until the parent process is gone."""
    # A terminal and some supervisors send them to all processes; this one ends with its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(1)
    control = socket.socket(fileno=int(sys.argv[1]))
    workers: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 + PID.size, 2)
        while workers:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if not ended:
                break
            workers.discard(ended)
        if not message:
            return
        if message[:1] == END:
            (pid,) = PID.unpack(message[1:])
            if pid in workers:  # not waited for yet, so the number is still its own
                os.kill(pid, signal.SIGKILL)
            continue
        pid = os.fork()
        if not pid:
            control.close()
            _work(*descriptors)
            os._exit(0)
        workers.add(pid)
        for descriptor in descriptors:
            os.close(descriptor)


def _work(channel_descriptor: int, memory_descriptor: int) -> None:
    _confine((channel_descriptor, memory_descriptor))
    channel = socket.socket(fileno=channel_descriptor)
    base = _address_space()
    channel.sendall(PID.pack(os.getpid()))
    memory: mmap.mmap | None = None
    while order := channel.recv(ORDER.size, socket.MSG_WAITALL):
        size, length, place, height, width, orientation, allowance, seconds = ORDER.unpack(order)
        if memory is None or len(memory) != size:
            if memory is not None:
                memory.close()  # it holds the last descriptor that this process may have
            memory = mmap.mmap(memory_descriptor, size)
        _limit(base + size + allowance, seconds)
        channel.sendall(_decode(memory, length, place, (height, width, 3), orientation))


def _decode(
    memory: mmap.mmap, length: int, place: int, shape: tuple[int, int, int], orientation: int
) -> bytes:
    try:
        frame = cv2.imdecode(np.frombuffer(memory, np.uint8, length), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError):
        return NO_PICTURE
    if frame is None or frame.shape != shape:
        return NO_PICTURE
    seen = turned(frame, orientation)
    np.ndarray(seen.shape, np.uint8, memory, place)[...] = seen
    return DONE


def _confine(descriptors: tuple[int, int]) -> None:
    """Give up what decoding needs not: files, output, programs, a dump of memory."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        if stream not in descriptors:
            os.dup2(nothing, stream)
    os.close(nothing)
    limits = {
        resource.RLIMIT_NOFILE: max(descriptors) + 2,  # mmap takes one of its own
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))


def _limit(address_space: int, seconds: int) -> None:
    """Let the worker be ended by the system if an image takes more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    ends = int(used.ru_utime + used.ru_stime) + 1 + seconds
    for limit, value in ((resource.RLIMIT_AS, address_space), (resource.RLIMIT_CPU, ends)):
        _, most = resource.getrlimit(limit)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, most))


def _address_space() -> int:
    """Bytes of this process's address space; plenty where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 2**40
    return pages * mmap.PAGESIZE


if __name__ == "__main__":
    main()
