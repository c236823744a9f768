"""Folders in which results are made, beside the place where they will stand.

Each is locked as long as its process lives, so what a killed one left is known and removed.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.file_lock import lock, try_lock

ASIDE = "replaced"
"""In such a folder: what stood at the final place, for the moment in which nothing stands there."""


@contextmanager
def temporary_folder(final: Path) -> Iterator[Path]:
    """A new folder for what will take the name ``final``; removed at the end with all in it.

    Raises:
        OSError: it cannot be made.
    """
    folder, handle = _locked_folder(final)
    try:
        yield folder
    finally:
        remove(folder)
        os.close(handle)


def clear_killed(final: Path) -> None:
    """Remove what killed writers of ``final`` left; what they had set aside comes back."""
    for folder in final.parent.glob(f"{glob.escape(_prefix(final))}*.partial"):
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                if not try_lock(handle):
                    continue
                if os.path.lexists(folder / ASIDE) and not os.path.lexists(final):
                    os.rename(folder / ASIDE, final)
                remove(folder)
            finally:
                os.close(handle)


def remove(path: Path) -> None:
    """Remove what is left; where that fails, the error that led here matters more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _locked_folder(final: Path) -> tuple[Path, int]:
    while True:
        folder = final.with_name(f"{_prefix(final)}{secrets.token_hex(4)}.partial")
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError):  # another one cleared it before it was locked
            handle = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks
                lock(handle)
            if folder.exists():
                return folder, handle
            os.close(handle)


def _prefix(final: Path) -> str:
    """How the temporaries of ``final`` begin; short, whatever its name is."""
    return f".{hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]}."
