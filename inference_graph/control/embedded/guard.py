"""Ends the services of a supervisor that was killed, which could not do it itself.

A program of its own: it holds the reading end of a pipe that only the supervisor can write to, so
the pipe ends with the supervisor, however that ended. The lines are ``+PID`` for a service that was
started and ``-PID`` for one that is done with. No signal that ends a terminal's programs ends this
one; nothing but the standard library is imported, so it is there in an instant.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time


class Guard:
    """The supervisor's end of the pipe."""

    def __init__(self, grace_seconds: float) -> None:
        """Start the program.

        Args:
            grace_seconds: how long a service may take to end before it is ended.

        Raises:
            OSError: it cannot be started.
        """
        self._process = subprocess.Popen(
            (sys.executable, "-I", "-S", __file__, str(grace_seconds)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def watch(self, pid: int) -> None:
        """End this process and its group, should the supervisor be killed."""
        self._send(f"+{pid}")

    def forget(self, pid: int) -> None:
        """Stop watching the process: it has ended, and its id may be reused."""
        self._send(f"-{pid}")

    def close(self) -> None:
        """Close the pipe to the guard."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()

    def _send(self, line: str) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # the guard was killed
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()


def _watch(grace_seconds: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        if line.startswith(b"+"):
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))
    for group in groups:
        _signalled(group, signal.SIGTERM)
    end = time.monotonic() + grace_seconds
    while any(_signalled(group, 0) for group in groups) and time.monotonic() < end:
        time.sleep(0.1)
    for group in groups:
        _signalled(group, signal.SIGKILL)


def _signalled(group: int, number: int) -> bool:
    """Whether the group was still there to get the signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    _watch(float(sys.argv[1]))
