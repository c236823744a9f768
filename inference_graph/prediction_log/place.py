"""Where the log lies: a folder or a bucket, through pyarrow's file systems.

::

    <url>/predictions/date=2026-11-21/hour=07/part-<writer>-<n>.parquet
    <url>/feedback/date=.../hour=.../part-<writer>-<n>.parquet
    <url>/sessions/<session>.<start>.json
    <journal>/predictions/<writer>-<n>.journal      rows that are in no part yet
    <journal>/sessions/<session>.<start>.json       summaries that are not at the url yet

The journal of a folder is its subfolder ``journal``; that of a bucket lies on the local disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from foundation.addresses import split_address
from foundation.errors import ConfigurationError, StorageError
from foundation.storage import atomic_path, remove_temporaries, sha256_file, sync

_CHUNK = 4 * 1024 * 1024
_BUCKETS = ("s3", "gs", "gcs")

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Place:
    """An opened place.

    Attributes:
        files: the file system.
        root: the log's folder in it, without a slash at the end.
        folder: the same on the local disk; None for a bucket.
        journal: folder on the local disk for what is not at the place yet.
        name: how messages call it; without credentials.
    """

    files: fs.FileSystem
    root: str
    folder: Path | None
    journal: Path
    name: str

    def listed(self, path: str, kind: fs.FileType) -> list[str]:
        """Names directly below a folder, sorted; none where the folder is missing.

        Raises:
            StorageError: the place cannot be listed.
        """
        selector = fs.FileSelector(self._at(path), allow_not_found=True)
        try:
            found = self.files.get_file_info(selector)
        except (OSError, pa.ArrowException) as error:
            raise self._refused("listed", error) from error
        return sorted(info.base_name for info in found if info.type == kind)

    def parts(
        self, stream: str, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[str]:
        """Paths of the parts whose hour touches ``since <= time < until``, oldest first.

        Raises:
            StorageError: the place cannot be listed.
        """
        for day in self.listed(stream, fs.FileType.Directory):
            start = _hour_of(day, "hour=00")
            if start is None or _apart(start, timedelta(days=1), since, until):
                continue
            for hour in self.listed(f"{stream}/{day}", fs.FileType.Directory):
                start = _hour_of(day, hour)
                if start is None or _apart(start, HOUR, since, until):
                    continue
                folder = f"{stream}/{day}/{hour}"
                for name in self.listed(folder, fs.FileType.File):
                    if name.startswith("part-") and name.endswith(".parquet"):
                        yield f"{folder}/{name}"

    def opened(self, path: str) -> pa.NativeFile:
        """A file to read at random.

        Raises:
            StorageError: it cannot be opened.
        """
        try:
            return self.files.open_input_file(self._at(path))
        except (OSError, pa.ArrowException) as error:
            raise self._refused("read", error) from error

    def put(self, path: str, source: Path) -> None:
        """Copy a local file to the place; it appears whole or not at all, and stays on a crash.

        Whoever asks removes the source then, so what a folder holds is read again; a bucket
        acknowledges an upload by its own protocol.

        Raises:
            StorageError: it cannot be written, or is not what was written.
        """
        if self.folder is not None:
            with atomic_path(self.folder / path) as temporary:
                shutil.copyfile(source, temporary)
                sync(temporary)
            sync((self.folder / path).parent)
            if sha256_file(self.folder / path) != sha256_file(source):
                raise StorageError(
                    f"the log at {self.name} has another {path} than was written; check the place"
                )
            return
        try:
            # An object appears when its upload is closed.
            with source.open("rb") as data, self.files.open_output_stream(self._at(path)) as out:
                while chunk := data.read(_CHUNK):
                    out.write(chunk)
        except (OSError, pa.ArrowException) as error:
            raise self._refused("written", error) from error

    def remove_temporaries(self, path: str) -> None:
        """Remove what a killed :meth:`put` of this file left; only its sole writer may ask.

        Raises:
            OSError: it cannot be removed.
        """
        if self.folder is not None:  # a bucket shows no upload that was not closed
            remove_temporaries(self.folder / path)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _refused(self, verb: str, error: Exception) -> StorageError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return StorageError(
            f"the log at {self.name} cannot be {verb} ({reason}); check its address and access"
        )


def open_place(url: str, journal: Path | None = None) -> Place:
    """Open a folder or a bucket; neither is made or looked at yet.

    Args:
        url: a path, ``file://``, ``s3://`` or ``gs://``; the query is what pyarrow's
            ``FileSystem.from_uri`` reads there, for example
            ``s3://bucket/log?region=eu-west-1`` or ``?endpoint_override=host:9000&scheme=http``.
        journal: where to keep what is not there yet; the place's default without it.

    Raises:
        ConfigurationError: no such kind of place, or a query pyarrow does not know.
    """
    parts = split_address(url)
    if not _is_utf8(url):
        raise ConfigurationError(f"log url {_named(url)!r} is not in UTF-8; rename the folder")
    if not url or (parts.scheme and parts.scheme not in ("file", *_BUCKETS) and "://" in url):
        raise ConfigurationError(f"log url {_named(url)!r} is no path, file://, s3:// or gs:// url")
    if parts.scheme not in _BUCKETS:
        folder = Path(parts.path if parts.scheme == "file" else url).absolute()
        local = fs.LocalFileSystem()
        return Place(local, str(folder), folder, journal or folder / "journal", str(folder))
    try:
        files, root = fs.FileSystem.from_uri(url)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ConfigurationError(
            f"log url {_named(url)!r} cannot be used ({reason}); see pyarrow.fs for its options"
        ) from error
    return Place(files, root.rstrip("/"), None, journal or _spool(url), _named(url))


def part_folder(stream: str, hour: datetime) -> str:
    """Folder of the parts of one hour (UTC)."""
    return f"{stream}/date={hour:%Y-%m-%d}/hour={hour:%H}"


def _spool(url: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "gearshift" / "journal" / hashlib.sha256(url.encode()).hexdigest()[:16]


def _is_utf8(text: str) -> bool:
    """Whether a text of the command line was UTF-8; Arrow takes no other paths."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _named(url: str) -> str:
    """The url without credentials and query."""
    parts = split_address(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else parts.path


def _hour_of(day: str, hour: str) -> datetime | None:
    try:
        return datetime.strptime(f"{day} {hour}", "date=%Y-%m-%d hour=%H").replace(tzinfo=UTC)
    except ValueError:
        return None


def _apart(
    start: datetime, length: timedelta, since: datetime | None, until: datetime | None
) -> bool:
    return (since is not None and start + length <= since) or (until is not None and start >= until)
