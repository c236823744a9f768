"""A prefix of a bucket (``s3://``, ``gs://``) copied into the cache, as a folder of the source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from components.data.coco import fault_of_name
from components.parallel import Progress, no_progress, ordered_map
from foundation.errors import InvalidInput, StorageError
from foundation.storage import atomic_path
from inference_graph.prediction_log.place import open_place

_SCHEMES = ("s3://", "gs://", "gcs://")
_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_CHUNK = 1 << 20
_READERS = 8
"""Objects read at once; a bucket answers many requests as fast as one."""


def names_bucket(source: str) -> bool:
    """Whether a source is a bucket's address."""
    return source.startswith(_SCHEMES)


@dataclass(frozen=True)
class BucketCopy:
    """What lies below a prefix, on this machine.

    Attributes:
        path: the folder, or the file of a single object.
        fetch: brings pictures that are only listed so far; takes their places in the folder.
    """

    path: Path
    fetch: Callable[[Iterable[Path]], None]


def copy_prefix(
    url: str,
    cache: Path,
    max_bytes: int,
    progress: Progress = no_progress,
    defer_pictures: bool = False,
) -> BucketCopy:
    """Copy what lies below a prefix.

    Objects that are there already, of the same size and no older, are not read again, so a copy
    that was interrupted goes on. The address's query is what pyarrow's file systems read there.

    Args:
        url: the prefix, or a zip.
        cache: folder for it.
        max_bytes: more is refused.
        progress: called with objects done and in all.
        defer_pictures: where the prefix holds nothing but pictures and COCO's JSON, let the
            pictures be files without content, of the right size, until they are fetched.

    Raises:
        ConfigurationError: the address cannot be used.
        InvalidInput: there is nothing, too much, or an object whose name leaves the folder.
        StorageError: the bucket cannot be read, or the disk is full.
    """
    place = open_place(url)
    name = url.partition("?")[0]
    try:
        (single,) = place.files.get_file_info([place.root])
        if single.type == fs.FileType.File:
            objects = [(single.base_name, single)]
        else:
            selector = fs.FileSelector(place.root, recursive=True, allow_not_found=True)
            listed = place.files.get_file_info(selector)
            objects = [
                (one.path.removeprefix(place.root).lstrip("/"), one)
                for one in listed
                if one.type == fs.FileType.File and not one.path.endswith("/")
            ]
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{name}: cannot be listed ({_reason(error)}); check its address and access"
        ) from error
    if not objects:
        raise InvalidInput(f"{name}: holds no objects; check the address")
    for relative, _ in objects:
        if fault := fault_of_name(relative):
            raise InvalidInput(f"{name}: its object {relative[:80]!r} {fault}; rename it")
    total = sum(one.size for _, one in objects)
    if total > max_bytes:
        raise InvalidInput(
            f"{name}: holds {total} bytes, more than the {max_bytes} allowed; "
            "give a smaller prefix, or raise --max-download-bytes"
        )
    folder = cache / "buckets" / hashlib.sha256(url.encode()).hexdigest()[:16]
    copy = _copier(place.files, folder, name)
    pictures = [one for one in objects if PurePosixPath(one[0]).suffix.lower() in _PICTURES]
    rest = [one for one in objects if PurePosixPath(one[0]).suffix.lower() not in _PICTURES]
    if defer_pictures and rest and all(one.endswith(".json") for one, _ in rest):
        for one, info in pictures:
            _stand_in(folder / one, info)
        now = rest
    else:
        now = objects
    for done, _ in enumerate(ordered_map(copy, now, _READERS), 1):
        progress(done, len(now))
    wanted = {relative for relative, _ in objects}
    for file in [one for one in folder.rglob("*") if one.is_file()]:
        if file.relative_to(folder).as_posix() not in wanted:
            file.unlink()  # of an object that the bucket no longer has
    known = dict(objects)

    def fetch(places: Iterable[Path]) -> None:
        names = (one.relative_to(folder).as_posix() for one in places if folder in one.parents)
        wanted = ((one, known[one]) for one in names if one in known)
        for _ in ordered_map(copy, wanted, _READERS):
            pass

    path = folder / objects[0][0] if single.type == fs.FileType.File else folder
    return BucketCopy(path, fetch)


def _stand_in(place: Path, info: fs.FileInfo) -> None:
    """A file of an object's size, without content, which is older than any object."""
    if place.is_file():
        there = place.stat()
        if there.st_size == info.size and (not there.st_mtime or there.st_mtime >= _changed(info)):
            return
    with atomic_path(place) as partial:
        partial.touch()
        os.truncate(partial, info.size)
        os.utime(partial, (0, 0))


def _changed(info: fs.FileInfo) -> float:
    # A stand-in's time is 0.
    return max((info.mtime_ns or 0) / 1e9, 1.0)


def _copier(
    files: fs.FileSystem, folder: Path, name: str
) -> Callable[[tuple[str, fs.FileInfo]], None]:
    def copy(one: tuple[str, fs.FileInfo]) -> None:
        relative, info = one
        target = folder / relative
        changed = _changed(info)
        if target.is_file():
            there = target.stat()
            if there.st_size == info.size and there.st_mtime >= changed:
                return
        try:
            with files.open_input_stream(info.path) as source, atomic_path(target) as partial:
                with partial.open("wb") as stream:
                    while chunk := source.read(_CHUNK):
                        stream.write(chunk)
                os.utime(partial, (changed, changed))
        except pa.ArrowException as error:
            raise StorageError(
                f"{name}: {relative} cannot be read ({_reason(error)}); run it again to go on"
            ) from error

    return copy


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
