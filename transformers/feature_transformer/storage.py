"""Results appear under their final name whole, or not at all."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_transformer.errors import StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``final`` to write a file or a folder to.

    On success it takes the final name by a rename, replacing a file or folder that was there;
    on any failure, an interrupt included, it is removed and ``final`` stays as it was.
    The temporary keeps the suffix of ``final``, because writers choose a format by it.

    Args:
        final: where the result shall stand; missing parent folders are made.

    Yields:
        A path in the same folder at which nothing exists yet.

    Raises:
        StorageError: the disk is full, the folder cannot be written, or the block wrote nothing.
            Other errors of the block pass through unchanged.
    """
    final = Path(final)
    temporary = _sibling(final, "partial")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {final.parent}: {error.strerror}; choose another place"
        ) from error
    try:
        yield temporary
        if not temporary.exists():
            raise StorageError(f"nothing was written for {final}; nothing was stored")
        _take_name(temporary, final)
    except OSError as error:
        _remove(temporary)
        if error.errno in _FULL:
            raise StorageError(
                f"the disk is full while writing {final}; free some space and run it again"
            ) from error
        if error.errno in _UNWRITABLE and _concerns(error, final):
            raise StorageError(
                f"cannot write {final}: {error.strerror}; choose another place"
            ) from error
        raise
    except BaseException:
        _remove(temporary)
        raise


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 lower-case hexadecimal digits.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from error


def sync(path: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk itself.

    A new name is there after a power cut only once its folder was synced.

    Raises:
        OSError: it cannot be opened, or the disk refuses.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_name(temporary: Path, final: Path) -> None:
    """Rename ``temporary`` to ``final``; a folder in the way steps aside first."""
    if not final.is_dir() or final.is_symlink():
        os.replace(temporary, final)
        return
    # A rename cannot replace a folder that holds something.
    aside = _sibling(final, "replaced")
    os.rename(final, aside)
    try:
        os.replace(temporary, final)
    except BaseException:
        os.rename(aside, final)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sibling(final: Path, mark: str) -> Path:
    return final.with_name(f".{final.stem}.{secrets.token_hex(4)}.{mark}{final.suffix}")


def remove_leftovers(final: Path) -> None:
    """Remove the temporaries that killed writers of ``final`` left beside it.

    Only the sole writer of ``final`` may ask: another one's would be among them.

    Raises:
        OSError: one cannot be removed.
    """
    for left in final.parent.glob(f".{glob.escape(final.stem)}.*.partial{final.suffix}"):
        left.unlink(missing_ok=True)


def _concerns(error: OSError, final: Path) -> bool:
    """Whether the error is about the place written to, not about an input of the block."""
    where = error.filename
    if not isinstance(where, str | os.PathLike):
        return False
    return Path(where).is_relative_to(final.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
