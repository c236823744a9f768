"""A zip archive from an unknown source, unpacked once into a cache folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components.data.coco import fault_of_name
from components.data.download import DownloadConfig, download, forget
from components.parallel import Progress
from foundation.errors import InvalidInput, StorageError
from foundation.storage import atomic_path, sha256_file

_CHUNK = 1 << 20
_MADE_ON_WINDOWS = 0
"""``create_system`` of an entry; a backslash in its name stands between folders."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class ArchiveLimits:
    """What is unpacked at most.

    Attributes:
        max_bytes: of all files together.
        max_files: entries of the archive.
        max_ratio: unpacked over packed bytes, for archives that unpack to more than 64 MiB. JSON
            packs to about a tenth, images hardly at all; a bomb reaches a thousand and more.
    """

    max_bytes: int = 128 << 30
    max_files: int = 5_000_000
    max_ratio: float = 100.0


def unpack(
    archive: Path,
    folder: Path,
    limits: ArchiveLimits | None = None,
    progress: Progress | None = None,
    only: str = "",
) -> Path:
    """Unpack a zip's files and return the folder they are in.

    The folder's name starts with the SHA-256 of the archive, so the same content is unpacked once.
    What the system that packed it left beside them (``__MACOSX``) is not unpacked.

    Args:
        archive: the zip.
        folder: where unpacked archives are kept.
        limits: what to accept; checked before the first byte is written.
        progress: called with the bytes unpacked and in all.
        only: name, or path within the archive, of the one file that is wanted; all without it.

    Raises:
        InvalidInput: no zip, damaged, encrypted, too large, without the file that is wanted, or an
            entry that would leave the folder or is a link; nothing is unpacked then.
        StorageError: the archive cannot be read, or the disk is full.
    """
    name = f"-{PurePosixPath(only).name}" if only else ""
    target = folder / f"{sha256_file(archive)}{name}"
    if target.is_dir():
        return target
    try:
        with zipfile.ZipFile(archive) as source:
            entries = _checked(archive, source.infolist(), limits or ArchiveLimits(), only)
            _check_space(archive, folder, sum(entry.file_size for entry in entries))
            with atomic_path(target) as place:
                place.mkdir()
                _extract(source, entries, place, progress)
    except _DAMAGE as error:
        raise InvalidInput(
            f"{archive}: no readable zip archive ({type(error).__name__}: {error}); "
            "pack or download it again"
        ) from error
    return target


def fetch_and_unpack(
    url: str,
    cache: Path,
    download_config: DownloadConfig | None = None,
    limits: ArchiveLimits | None = None,
    progress: Progress | None = None,
    only: str = "",
) -> Path:
    """Download a zip into the cache, unpack it there, and return the folder (see ``unpack``).

    What turns out to be no zip, such as a proxy's welcome page, does not stay in the cache.

    Raises InvalidInput and StorageError as ``download`` and ``unpack`` do.
    """
    archive = download(url, cache / "downloads", download_config, progress)
    try:
        return unpack(archive, cache / "unpacked", limits, progress, only)
    except InvalidInput as error:
        if isinstance(error.__cause__, _DAMAGE):
            forget(archive)
        raise InvalidInput(f"what came from {url} cannot be used: {error}") from error


def _checked(
    archive: Path, entries: list[zipfile.ZipInfo], limits: ArchiveLimits, only: str
) -> list[zipfile.ZipInfo]:
    """Return the entries to unpack; raise InvalidInput when any entry is unsafe."""
    if len(entries) > limits.max_files:
        raise InvalidInput(
            f"{archive}: has {len(entries)} entries, more than the {limits.max_files} allowed; "
            "unpack it yourself and give the folder"
        )
    wanted: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if entry.create_system == _MADE_ON_WINDOWS:
            entry.filename = entry.filename.replace("\\", "/")
        link = stat.S_ISLNK(entry.external_attr >> 16)
        if fault := "is a link" if link else fault_of_name(entry.filename):
            raise InvalidInput(
                f"{archive}: its entry {entry.filename[:80]!r} {fault}; "
                "the archive is not safe to unpack, so nothing was"
            )
        path = PurePosixPath(entry.filename)
        if entry.is_dir() or path.parts[0] == "__MACOSX":
            continue
        if only and only not in (path.name, str(path)):
            continue
        if str(path) in wanted:
            raise InvalidInput(f"{archive}: its entry {path} occurs twice; pack it again")
        if entry.flag_bits & 0x1:
            raise InvalidInput(
                f"{archive}: its entry {path} is encrypted; pack it again without a password"
            )
        wanted[str(path)] = entry
    if only and not wanted:
        raise InvalidInput(f"{archive}: holds no {only}; give an archive that does")
    total = sum(entry.file_size for entry in wanted.values())
    packed = max(1, archive.stat().st_size)
    if total > limits.max_bytes or (total > 64 << 20 and total / packed > limits.max_ratio):
        raise InvalidInput(
            f"{archive}: {packed} bytes would unpack to {total}, more than is allowed "
            f"({limits.max_bytes} bytes, {limits.max_ratio:g} times the archive); "
            "if you trust it, unpack it yourself and give the folder"
        )
    return list(wanted.values())


def _check_space(archive: Path, folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{archive}: unpacking needs {needed} bytes and {folder} has {free} left; "
            "free some space or choose another folder with --cache"
        )


def _extract(
    source: zipfile.ZipFile,
    entries: list[zipfile.ZipInfo],
    place: Path,
    progress: Progress | None,
) -> None:
    done, total = 0, sum(entry.file_size for entry in entries)
    for entry in entries:
        target = place / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        # zipfile yields at most the size an entry declares, and checks its CRC at the end.
        with source.open(entry) as packed, target.open("xb") as stream:
            while chunk := packed.read(_CHUNK):
                stream.write(chunk)
        done += entry.file_size
        if progress:
            progress(done, total)
