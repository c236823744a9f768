"""Marks of results: which verb wrote a file or a folder, and whether it is still as it was written.

A folder holds its mark, ``.gearshift``; the mark of a file lies beside it, ``.NAME.gearshift``. It
is JSON: the verb, and the size, time and SHA-256 of each file. A folder in which a verb works for
days, like that of a pipeline's runs, is marked with the verb alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.temporary_folder import temporary_folder

MARK = ".gearshift"
_NAME_BYTES = 240
_MARK_BYTES = 1 << 28

Facts = tuple[int, int, str]
"""Size in bytes, time of the last change in nanoseconds, SHA-256 in hexadecimal."""


@dataclass(frozen=True)
class Mark:
    """The content of a mark.

    Attributes:
        verb: which verb wrote the result.
        files: facts of each file by its path in the result, the newest first; those of the version
            before it count too, because a mark is written before its file is replaced. None where
            the folder is marked as a whole.
    """

    verb: str
    files: dict[str, list[Facts]] | None


def mark_file(result: Path, folder: bool) -> Path:
    """Where the mark of a result is."""
    if folder:
        return result / MARK
    name = result.name
    if len(os.fsencode(name)) > _NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return result.with_name(f".{name}{MARK}")


def read_mark(file: Path) -> Mark | None:
    """Read a mark; None where there is none, or something else.

    Raises:
        OSError: it cannot be read.
    """
    try:
        if not stat.S_ISREG(file.lstat().st_mode) or file.stat().st_size > _MARK_BYTES:
            return None
        content: Any = json.loads(file.read_bytes())
        files = content["files"]
        if files is not None:
            files = {
                str(name): [(int(size), int(time), str(sha)) for size, time, sha in versions]
                for name, versions in files.items()
            }
        return Mark(str(content["verb"]), files)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_mark(file: Path, mark: Mark) -> None:
    """Write a mark; it appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with temporary_folder(file) as folder:
        partial = folder / MARK
        partial.write_text(json.dumps({"verb": mark.verb, "files": mark.files}), encoding="utf-8")
        os.replace(partial, file)


def facts_of(file: Path) -> Facts:
    """Facts of a file; of a link its target's name, of a folder that it is one.

    Raises:
        OSError: it cannot be read.
    """
    found = file.lstat()
    if stat.S_ISREG(found.st_mode):
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return found.st_size, found.st_mtime_ns, sha256
    if stat.S_ISLNK(found.st_mode):
        return 0, 0, f"link to {os.readlink(file)}"
    return 0, 0, "folder" if stat.S_ISDIR(found.st_mode) else "special"


def is_as_written(file: Path, versions: list[Facts]) -> bool:
    """Whether a file is one of the versions that a mark names.

    Raises:
        OSError: it cannot be read.
    """
    found = file.lstat()
    if stat.S_ISREG(found.st_mode):
        known = [one for one in versions if one[0] == found.st_size]
        if any(one[1] == found.st_mtime_ns for one in known) or not known:
            return bool(known)  # a copy has another time, so only then is its content read
    return facts_of(file)[2] in [one[2] for one in versions]


def mark_of_folder(folder: Path, verb: str) -> Mark:
    """The mark of a folder as it is now.

    Raises:
        OSError: something in it cannot be read.
    """
    return Mark(verb, {name: [facts_of(folder / name)] for name in _names(folder)})


def first_foreign(folder: Path, mark: Mark) -> str | None:
    """The first file of a folder that its mark does not name as it is; None where there is none.

    Raises:
        OSError: something in it cannot be read.
    """
    for name in _names(folder):
        known = (mark.files or {}).get(name)
        if known is None or not is_as_written(folder / name, known):
            return name
    return None


def _names(folder: Path) -> Iterator[str]:
    """Paths below a folder, links not followed, without its mark."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        below = os.path.relpath(place, folder)
        for name in sorted(folders + files):
            path = name if below == "." else f"{below}/{name}"
            if path != MARK:
                yield path
