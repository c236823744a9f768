"""Which file a record's file name means, by its whole path and never by chance.

Names repeat across folders (each camera has its ``000001.jpg``), so a picture is its path below a
folder. Where a data set does not name the folder, the places where pictures usually lie are asked
in a stated order; a folder that is only one of several is taken where a name occurs in it alone.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from components.data.coco import is_safe_name
from foundation.storage import sha256_file

Resolve = Callable[[str, Sequence[Path]], str]
"""Turns a record's file name into the path below the folders that it means."""

_LOCAL_FILE = re.compile(r"[?&]d=([^&]+)")
_UPLOAD = re.compile(r"(?:^|/)(?:data/|media/)+upload/(\d+/.+)$")
_UPLOAD_KEY = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""

_EXPORTED = "images"
"""The folder that Label Studio names in what it exports, whatever it is called on this machine."""


@dataclass(frozen=True)
class PictureFolders:
    """Where the pictures of a data set may lie.

    Attributes:
        stated: the usual places, the likeliest first.
        others: folders that hold pictures only if none of the usual places does.
        home: the usual place that counts, where all pictures of a data set have been looked for.
    """

    stated: tuple[Path, ...]
    others: tuple[Path, ...] = ()
    home: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """All of them, the likeliest first."""
        return (*self.stated, *self.others)


def locate(names: Iterable[str], folders: PictureFolders) -> dict[str, list[Path]]:
    """Files that each name means: one where all is well, none, or several with other content.

    Of the usual places the first that holds every picture counts; without one, the one that holds
    most goes before the others. Other folders are equal to each other.
    """
    wanted = list(dict.fromkeys(names))
    held: list[tuple[Path, set[str]]] = []
    for place in folders.stated:
        held.append((place, {name for name in wanted if (place / name).is_file()}))
        if len(held[-1][1]) == len(wanted) and folders.home in (None, place):
            return {name: [place / name] for name in wanted}
    # max() keeps the first of equal ones.
    home, most = max(held, key=lambda one: len(one[1]), default=(Path(), set[str]()))
    if folders.home is not None:
        home, most = folders.home, dict(held)[folders.home]
    if most or folders.home is not None:
        rest = [(place, there) for place, there in held if place != home]
    else:
        others = folders.others
        rest = [(place, {n for n in wanted if (place / n).is_file()}) for place in others]
    return {
        name: [home / name]
        if name in most
        else _different([place / name for place, there in rest if name in there])
        for name in wanted
    }


def separators_resolved(name: str, folders: Sequence[Path]) -> str:
    """A name whose backslashes are a path's where no file has them in its name."""
    if "\\" not in name or _find(name, folders) is not None:
        return name
    return _find(name.replace("\\", "/"), folders) or name


def tool_path_resolved(name: str, folders: Sequence[Path]) -> str:
    r"""An annotation tool's own address of a picture as a path below the folders.

    Known are Label Studio's (``images\a.jpg``, ``../../label-studio/data/media/upload/1/a.jpg``,
    ``/data/upload/1/a.jpg``, ``/data/local-files/?d=cam1/a.jpg``, each also as an URL), absolute
    paths of another machine, and URLs. The longest end of such a path that is a file is meant; a
    plain relative path is taken as it is, but for the folder's own name before it.

    Returns:
        The path below a folder; the name as it is where it means no file.
    """
    if _find(name, folders) is not None:
        return name
    slashed = name.replace("\\", "/")
    foreign = _below_another_root(name, slashed)
    parts = PurePosixPath(foreign if foreign is not None else slashed).parts
    if ".." in parts:
        return name
    most = len(parts) - 1 if foreign is not None else _own_name(parts, folders)
    for dropped in range(most + 1):
        tail = "/".join(parts[dropped:])
        found = _find(tail, folders)
        if found is None and foreign is not None:
            bare = PurePosixPath(tail).with_name(_UPLOAD_KEY.sub("", parts[-1]) or parts[-1])
            found = _find(str(bare), folders)
        if found is not None:
            return found
    return name


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy where links are not possible."""
    try:
        # A link to a symbolic link would lead nowhere from its new place.
        os.link(source.resolve() if source.is_symlink() else source, target)
    except OSError:
        # Another device, a file of another owner, or a file system without links.
        shutil.copyfile(source, target)


def _below_another_root(name: str, slashed: str) -> str | None:
    """The path within the place a tool's address points into; None for a plain relative path."""
    local = _LOCAL_FILE.search(name)
    if local:
        return unquote(local[1]).replace("\\", "/").lstrip("/")
    try:
        path = unquote(urlsplit(slashed).path) if "://" in slashed else slashed
    except ValueError:
        return None  # no address after all
    upload = _UPLOAD.search(path)
    if upload:
        return upload[1]
    if "://" in slashed or path.startswith("/"):
        return path.lstrip("/")
    drive = PureWindowsPath(name).drive
    return slashed[len(drive) :].lstrip("/") if drive and "\\" in name else None


def _own_name(parts: Sequence[str], folders: Sequence[Path]) -> int:
    """How many leading parts only repeat which folder it is."""
    most = 1 if len(parts) > 1 and parts[0] == _EXPORTED else 0
    for folder in folders:
        own = folder.resolve().parts
        for count in range(1, len(parts)):
            if tuple(parts[:count]) == own[-count:]:
                most = max(most, count)
    return most


def _find(name: str, folders: Sequence[Path]) -> str | None:
    if not is_safe_name(name):
        return None
    return name if any((folder / name).is_file() for folder in folders) else None


def _different(files: Sequence[Path]) -> list[Path]:
    """One file of each content; only asked where a name occurs more than once."""
    if len(files) < 2:
        return list(files)
    return list({sha256_file(file): file for file in reversed(files)}.values())[::-1]
