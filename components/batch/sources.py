"""What a batch run reads: images and videos of a folder, a zip archive, a bucket, or one file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from components.data.archive import unpack
from components.data.image_facts import cache_folder
from foundation.addresses import split_address
from foundation.errors import InvalidInput, Unavailable

IMAGES = frozenset({".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".wav", ".webp"})
VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
_BUCKETS = ("s3", "gs")
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceEntry:
    """An image or a video.

    Attributes:
        name: its path below the source.
        path: its path on the source's file system.
        version: size and time of its last change.
        is_video: whether it is a video.
    """

    name: str
    path: str
    version: str
    is_video: bool


@dataclass(frozen=True)
class BatchSource:
    """What is read.

    Attributes:
        files: the file system.
        entries: images and videos, in the order of their names.
    """

    files: fs.FileSystem
    entries: tuple[SourceEntry, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and times of change."""
        lines = (f"{one.name}\0{one.version}\n" for one in self.entries)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def read(self, entry: SourceEntry, limit: int) -> bytes:
        """Bytes of a file, at most one more than allowed.

        Raises:
            Unavailable: it cannot be read.
        """
        try:
            with self.files.open_input_stream(entry.path) as stream:
                return bytes(stream.read(limit + 1))
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(entry, error) from error

    @contextlib.contextmanager
    def local_file(self, entry: SourceEntry) -> Iterator[Path]:
        """A path of this machine; that of a copy where the file lies in a bucket.

        Raises:
            Unavailable: it cannot be read.
        """
        if isinstance(self.files, fs.LocalFileSystem):
            yield Path(entry.path)
            return
        with tempfile.TemporaryDirectory(prefix="gearshift-batch-") as folder:
            copy = Path(folder) / f"video{PurePosixPath(entry.name).suffix}"
            try:
                with self.files.open_input_stream(entry.path) as stream, copy.open("wb") as file:
                    shutil.copyfileobj(stream, file, _COPY_BYTES)
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(entry, error) from error
            yield copy


def open_source(source: str) -> BatchSource:
    """List a source; hidden files, and those that are neither images nor videos, are left out.

    Args:
        source: a folder, a zip archive, an image, a video, or the ``s3://`` or ``gs://`` address of
            a prefix, with a query as pyarrow's ``FileSystem.from_uri`` reads it.

    Raises:
        InvalidInput: there is nothing of that name, the archive is not safe to unpack, or it holds
            no image and no video.
        Unavailable: the bucket does not answer.
    """
    if not source:
        raise InvalidInput("no source is named; give a folder, a zip, a video, or an address")
    scheme = split_address(source).scheme if "://" in source else ""
    if scheme and scheme not in _BUCKETS:
        raise InvalidInput(
            f"{source[:200]} is no source; give a folder, a zip, a video, or an s3:// or gs:// "
            "address"
        )
    try:
        if scheme:
            files, root = fs.FileSystem.from_uri(source)
        else:
            files, root = fs.LocalFileSystem(), str(_local(Path(source).expanduser()))
        entries = tuple(_listed(files, root.rstrip("/")))
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise InvalidInput(f"{_named(source)} cannot be listed: {_first_line(error)}") from error
    except (OSError, pa.ArrowException) as error:
        raise Unavailable(
            f"{_named(source)} cannot be listed ({_first_line(error)}); check address and access"
        ) from error
    if not entries:
        kinds = ", ".join(sorted(one[1:] for one in IMAGES | VIDEOS))
        raise InvalidInput(f"{_named(source)} holds no image and no video ({kinds})")
    return BatchSource(files, entries)


def _local(path: Path) -> Path:
    if not path.exists():
        raise InvalidInput(f"there is no {path}; check the path")
    if path.suffix.lower() == ".zip" and path.is_file():
        return unpack(path, cache_folder("") / "unpacked")
    return path.absolute()


def _listed(files: fs.FileSystem, root: str) -> Iterator[SourceEntry]:
    for name, path, version in sorted(_found(files, root)):
        parts = PurePosixPath(name).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        kind = PurePosixPath(name).suffix.lower()
        if not hidden and kind in IMAGES | VIDEOS:
            name.encode()  # results are in UTF-8; another name is refused here
            yield SourceEntry(name, path, version, kind in VIDEOS)


def _found(files: fs.FileSystem, root: str) -> Iterator[tuple[str, str, str]]:
    """Name, path and version of every file; links to folders are not followed."""
    if isinstance(files, fs.LocalFileSystem):
        for path in _local_files(Path(root)):
            facts = path.stat()
            base = Path(root) if path != Path(root) else path.parent
            name = path.relative_to(base).as_posix()
            yield name, str(path), f"{facts.st_size} {facts.st_mtime_ns}"
        return
    info = files.get_file_info(root)
    is_file = info.type == fs.FileType.File
    found = [info] if is_file else files.get_file_info(fs.FileSelector(root, recursive=True))
    base_path = root.rpartition("/")[0] if is_file else root
    for one in found:
        if one.type == fs.FileType.File:
            name = one.path[len(base_path) :].lstrip("/")
            yield name, one.path, f"{one.size} {one.mtime_ns}"


def _local_files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, _, names in os.walk(root):
        yield from (path for name in names if (path := Path(folder) / name).is_file())


def _unreadable(entry: SourceEntry, error: Exception) -> Unavailable:
    return Unavailable(f"{entry.name} cannot be read now ({_first_line(error)})")


def _named(source: str) -> str:
    """The source without credentials and query."""
    if "://" not in source:
        return source
    parts = split_address(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
