"""Starts a program that the kernel ends when the process that started this one has died.

A program of its own, which becomes the other one (``exec``): the request of ``prctl`` outlives
that, and no code runs between a fork and an exec in a process with threads. It is the guard's
second: who kills the supervisor may kill the guard as well. The guard alone reaches what does not
listen to SIGTERM, and the services' own children.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def leashed(command: Sequence[str]) -> tuple[str, ...]:
    """A command that gets SIGTERM when this thread ends; itself where the kernel cannot do that.

    Linux counts the thread that starts it as the parent, so it must be one that lives as long as
    the process.
    """
    if sys.platform != "linux":
        return tuple(command)
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *command)


def _become(parent: int, command: Sequence[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == parent:  # else the parent died before the request was made
        os.execvp(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
