"""The files of a ledger's folders: which are experiments', which changed, which are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.experiments.document import check_name
from foundation.errors import ConfigurationError


def experiment_files(places: Sequence[Path]) -> tuple[dict[str, str], list[str]]:
    """Look through folders and those in them; no file is read.

    Args:
        places: folders; where two have the same experiment, the first one's counts.

    Returns:
        Every experiment's file with its stamp, and a line for each file or folder left out.

    Raises:
        ConfigurationError: two files of a place have the same name.
    """
    found: dict[str, tuple[str, str]] = {}
    left_out: list[str] = []
    for place in places:
        mine: dict[str, tuple[str, str]] = {}
        for name, path, stamp in _scan(str(place), left_out):
            if name in mine:
                raise ConfigurationError(
                    f"{mine[name][0]} and {path} are the same experiment; rename one of them"
                )
            mine[name] = path, stamp
        found = mine | found
    return dict(found.values()), left_out


def name_of(path: str) -> str:
    """The experiment of a file; ten thousand of them are too many for pathlib."""
    return os.path.splitext(os.path.basename(path))[0]


def stamp_of(entry: os.DirEntry[str]) -> str:
    """What changes when a file does.

    Raises:
        OSError: it is gone.
    """
    try:
        facts = entry.stat()
    except OSError:
        facts = entry.stat(follow_symlinks=False)  # a link that leads nowhere
    return f"{facts.st_mtime_ns} {facts.st_size}"


def _scan(place: str, left_out: list[str]) -> Iterator[tuple[str, str, str]]:
    """Name, path and stamp of every file, in the order of the names of each folder."""
    folders, seen = [place], set()
    while folders:
        folder = folders.pop()
        try:
            facts = os.stat(folder)
            if (facts.st_dev, facts.st_ino) in seen:
                continue  # a link leads here again
            seen.add((facts.st_dev, facts.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue  # not made yet, or removed meanwhile
        except OSError as error:
            left_out.append(f"{_shown(folder)} is left out: {error.strerror}; check it")
            continue
        for entry in entries:
            name, dot, kind = entry.name.rpartition(".")
            if kind in ("yaml", "yml") and name and name[0] != ".":
                try:
                    check_name(name)
                    entry.path.encode()
                    yield name, entry.path, stamp_of(entry)
                except ConfigurationError as error:
                    left_out.append(f"{_shown(entry.path)} is left out: {error}")
                except UnicodeEncodeError:
                    left_out.append(
                        f"{_shown(entry.path)} is left out: its folder's name is no valid Unicode; "
                        "rename it"
                    )
                except OSError:
                    continue  # removed meanwhile
            elif not dot and os.path.isdir(entry.path):
                folders.append(entry.path)


def _shown(path: str) -> str:
    """A path as one line that no terminal takes for anything else."""
    return path if path.isprintable() else ascii(path)
