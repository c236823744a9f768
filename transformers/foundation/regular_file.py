"""Opening files that end: a named pipe would be waited for, and a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any


def open_regular(path: Path, mode: str = "rb", buffering: int = -1) -> Any:
    """Open a file in binary mode, as ``open`` does, unless it is no regular file.

    Raises:
        OSError: as ``open``; EINVAL, "it is no regular file", for a pipe, a socket or a device.
    """
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG  # made here, or missed below
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # open names a folder by itself
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return open(path, mode, buffering)
