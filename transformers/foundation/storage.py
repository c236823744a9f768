"""Results appear under their final name whole, or not at all.

What a verb writes for its user goes only where ``path_roles`` lets it, and is marked.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.errors import StorageError
from foundation.path_roles import Claim, check_no_input, check_replaceable, claim_of
from foundation.regular_file import open_regular
from foundation.result_marks import (
    Mark,
    facts_of,
    mark_file,
    mark_of_folder,
    write_mark,
)
from foundation.temporary_folder import (
    ASIDE,
    clear_killed,
    remove,
    temporary_folder,
)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
_STEM = 40
"""Characters of a name in its temporary's, which else could be too long for the disk."""
_HERE, _RENAME_EXCHANGE = -100, 2
"""AT_FDCWD, and the flag of renameat2(2)."""


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path near ``final``, to write a file or a folder to.

    On success it takes the final name by a rename; on any failure, an interrupt included, it is
    removed and ``final`` stays as it was. A file replaces a file and a folder a folder, never one
    the other. What the running verb claimed replaces only what the same verb wrote, and is marked.
    The temporary keeps the suffix of ``final``, because writers choose a format by it.

    Args:
        final: where the result shall stand; missing parent folders are made.

    Yields:
        A path on the same disk at which nothing exists yet.

    Raises:
        StorageError: the disk is full, the folder cannot be written, or the block wrote nothing.
        ConfigurationError: something else is there that must not be replaced.
            Other errors of the block pass through unchanged.
    """
    claim = claim_of(Path(final))
    final = Path(final) if claim is None else Path(os.path.realpath(final))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {final.parent}: {error.strerror}; choose another place"
        ) from error
    try:
        with _temporary(final, claim) as temporary:
            yield temporary
            if not os.path.lexists(temporary):
                raise StorageError(f"nothing was written for {final}; nothing was stored")
            if claim is not None:
                _mark(temporary, final, claim)
            _take_name(temporary, final)
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"the disk is full while writing {final}; free some space and run it again"
            ) from error
        if _concerns(error, final):
            raise StorageError(
                f"cannot write {final}: {error.strerror}; choose another place"
            ) from error
        raise


def read_bytes(path: Path) -> bytes:
    """A file's content; raises StorageError where it cannot be read."""
    try:
        with open_regular(path) as stream:
            return bytes(stream.read())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 lower-case hexadecimal digits.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        with open_regular(path) as stream:
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


@contextmanager
def _temporary(final: Path, claim: Claim | None) -> Iterator[Path]:
    """A path for the result while it is made; nothing is left of it at the end."""
    if claim is None:
        temporary = _sibling(final)
        try:
            yield temporary
        finally:
            remove(temporary)
        return
    clear_killed(final)
    with temporary_folder(final) as folder:
        yield folder / final.name


def _mark(temporary: Path, final: Path, claim: Claim) -> None:
    """Note who wrote the result; after a kill at any point what stands there is known."""
    folder = temporary.is_dir()
    check_no_input(final, claim)
    check_replaceable(final, claim.use, claim.verb, folder)
    if folder:
        write_mark(mark_file(temporary, True), mark_of_folder(temporary, claim.verb))
    elif claim.use != "workplace":
        versions = [facts_of(path) for path in (temporary, final) if os.path.lexists(path)]
        write_mark(mark_file(final, False), Mark(claim.verb, {final.name: versions}))


def _take_name(temporary: Path, final: Path) -> None:
    """Rename ``temporary`` to ``final``; a folder that is there changes places with it."""
    folder = temporary.is_dir() and not temporary.is_symlink()
    there = final.is_dir() and not final.is_symlink()
    if folder != there and os.path.lexists(final):
        what = ("a folder", "a file") if there else ("a file", "a folder")
        raise StorageError(f"{final} is {what[0]}, and {what[1]} never replaces one; move it away")
    # A rename cannot replace a folder that holds something.
    if not there or _exchange(temporary, final):
        if not there:
            os.replace(temporary, final)
        return
    aside = temporary.with_name(ASIDE) if temporary.name == final.name else _sibling(final)
    os.rename(final, aside)
    try:
        os.replace(temporary, final)
    except BaseException:
        os.rename(aside, final)
        raise
    remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places at once, where the system can (Linux)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _sibling(final: Path) -> Path:
    stem, suffix = final.stem[:_STEM], final.suffix[:_STEM]
    return final.with_name(f".{stem}.{secrets.token_hex(4)}.partial{suffix}")


def remove_temporaries(final: Path) -> None:
    """Remove the temporaries that killed writers of ``final`` left beside it.

    Only the sole writer of ``final`` may ask: another one's would be among them.

    Raises:
        OSError: one cannot be removed.
    """
    pattern = f".{glob.escape(final.stem[:_STEM])}.*.partial{glob.escape(final.suffix[:_STEM])}"
    for file in final.parent.glob(pattern):
        file.unlink(missing_ok=True)


def _concerns(error: OSError, final: Path) -> bool:
    """Whether the error is about the place written to, not about an input of the block."""
    where = error.filename
    if not isinstance(where, str | os.PathLike) or not Path(where).is_relative_to(final.parent):
        return False
    below = Path(where).relative_to(final.parent).parts
    return error.errno in _UNWRITABLE or (below != () and ".partial" in below[0])
