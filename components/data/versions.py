"""Versions of a data set: content-addressed, each content stored once, readable by DVC.

The store, a folder or a bucket (s3://, gs://), is a remote of DVC 3::

    files/md5/ab/cdef...          content of a file, by its MD5
    files/md5/ab/cdef....dir      a version: JSON [{"md5", "relpath"}, ...]
    gearshift/versions/NAME.json  when, why and what: counts, parent, the data's SHA-256

``DATASET.dvc`` beside the data set names its version; ``dvc pull`` reads it with the store as the
remote. MD5 is DVC's choice of name and no protection: a picture's SHA-256 stands in the
annotations, and checkout compares every file with its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pyarrow import fs
from pydantic import StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from components.data.bucket import names_bucket
from components.data.coco import is_safe_name
from components.data.dataset import (
    ANNOTATIONS_FILE,
    IMAGES_FOLDER,
    Dataset,
    dataset_from_coco,
    load_dataset,
)
from components.parallel import Progress, no_progress, ordered_map
from foundation.errors import ImageError, InvalidInput, NotFound
from foundation.storage import atomic_path
from foundation.yaml_text import read_yaml
from inference_graph.prediction_log.place import Place, open_place

_OBJECTS, _VERSIONS = "files/md5", "gearshift/versions"
_CHUNK = 1 << 20
_LEAST_PREFIX = 4
_Kind = TypeVar("_Kind")


Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]


@dataclass(frozen=True)
class Version:
    """One version of a data set.

    Attributes:
        id: MD5 of the list of its files.
        time: when it was made, UTC, ISO 8601.
        message: why, in the user's words.
        parent: id of the version before; empty for the first.
        files: how many.
        bytes: of all files.
        images: pictures.
        annotations: boxes.
        categories: boxes by the category's name.
        dataset_sha256: the hash that profiles, splits and policies carry of the data.
    """

    id: Digest
    time: str
    message: str
    parent: str
    files: int
    bytes: int
    images: int
    annotations: int
    categories: dict[str, int]
    dataset_sha256: str


@dataclass(frozen=True)
class VersionSummary:
    """A version, and how many of its files and bytes the store did not have before."""

    version: Version
    new_files: int
    new_bytes: int
    dvc_file: str


@dataclass(frozen=True)
class VersionDifference:
    """What another version has more, less, or otherwise.

    Attributes:
        added: file names of images only the second has.
        removed: file names of images only the first has.
        changed: images whose picture differs.
        relabelled: images of the same picture whose boxes differ.
        categories: boxes of the first and of the second, by category, where they differ.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    relabelled: tuple[str, ...]
    categories: dict[str, tuple[int, int]]


def make_version(
    dataset: Path, store: str, message: str = "", progress: Progress = no_progress
) -> VersionSummary:
    """Store a data set's files and write ``DATASET.dvc`` beside it.

    A version that was interrupted goes on where it stopped: contents that are stored stay.

    Args:
        dataset: canonical data set folder.
        store: folder or bucket.
        message: why there is a new version.
        progress: called with files stored and in all.

    Raises:
        AnnotationError: the folder is no data set.
        ConfigurationError: the store is no folder or bucket.
        StorageError: the store cannot be read or written.
    """
    data = load_dataset(dataset)
    place = open_place(store)
    files = sorted(path for path in dataset.rglob("*") if path.is_file())
    objects = _Objects(place)
    listed: list[dict[str, str]] = []
    size = new_files = new_bytes = 0
    for done, (path, digest) in enumerate(zip(files, ordered_map(_md5, files), strict=True), 1):
        length = path.stat().st_size
        size += length
        if objects.add(digest, path):
            new_files, new_bytes = new_files + 1, new_bytes + length
        listed.append({"md5": digest, "relpath": path.relative_to(dataset).as_posix()})
        progress(done, len(files))
    listed.sort(key=lambda one: one["relpath"])
    content = json.dumps(listed, sort_keys=True).encode()
    number = hashlib.md5(content, usedforsecurity=False).hexdigest()
    known = versions_in(store)
    version = next((one for one in known if one.id == number), None)
    if version is None:
        version = Version(
            id=number,
            time=datetime.now(UTC).isoformat(timespec="microseconds"),
            message=message,
            parent=known[-1].id if known else "",
            files=len(files),
            bytes=size,
            images=len(data),
            annotations=len(data.boxes),
            categories=_boxes_by_category(data),
            dataset_sha256=str(data.info.get("source_sha256") or ""),
        )
        _put(place, f"{_object(number)}.dir", content)
        _put(place, f"{_VERSIONS}/{number}.json", json.dumps(asdict(version)).encode())
    dvc_file = dataset.with_name(f"{dataset.name}.dvc")
    out = {
        "md5": f"{number}.dir",
        "size": version.bytes,
        "nfiles": version.files,
        "hash": "md5",
        "path": dataset.name,
    }
    with atomic_path(dvc_file) as partial:
        partial.write_text(yaml.safe_dump({"outs": [out]}, sort_keys=False), encoding="utf-8")
    return VersionSummary(version, new_files, new_bytes, str(dvc_file))


def versions_in(store: str) -> list[Version]:
    """The versions of a store, the oldest first.

    Raises:
        ConfigurationError: the store is no folder or bucket.
        InvalidInput: a version's record is damaged.
        StorageError: the store cannot be read.
    """
    place = open_place(store)
    names = place.listed(_VERSIONS, fs.FileType.File)
    records = (f"{_VERSIONS}/{name}" for name in names if name.endswith(".json"))
    versions = [_read(place, name, TypeAdapter(Version)) for name in records]
    return sorted(versions, key=lambda one: one.time)


def find_version(store: str, name: str) -> Version:
    """The version that a name means.

    Args:
        store: folder or bucket.
        name: its id or the first four letters or more of it, ``latest``, a ``.dvc`` file, or the
            SHA-256 of a data set that a policy or profile carries.

    Raises:
        NotFound: the store has none of that name, or several.
    """
    known = versions_in(store)
    if name == "latest" and known:
        return known[-1]
    wanted = name
    if name.endswith(".dvc") and Path(name).is_file():
        wanted = _named_by(Path(name))
    found = [one for one in known if one.dataset_sha256 == wanted]
    if not found and len(wanted) >= _LEAST_PREFIX:
        found = [one for one in known if one.id.startswith(wanted)]
    if len(found) != 1:
        raise NotFound(
            f"{store}: has {len(found) or 'no'} versions called {name!r}; "
            "`gearshift data log` lists them"
        )
    return found[0]


def named_version(source: str) -> tuple[str, str] | None:
    """Store and version of a source ``STORE@VERSION``; None for a source of another kind."""
    store, _, name = source.rpartition("@")
    if not store or not name or "/" in name or os.path.exists(Path(source).expanduser()):
        return None
    folder = "://" not in store and (Path(store).expanduser() / _VERSIONS).is_dir()
    return (store, name) if folder or names_bucket(store) else None


def pinned_source(source: str) -> str:
    """``STORE@VERSION`` with the version's whole id, and the store as any folder calls it.

    Any other source stays as it is. Raises as ``find_version`` does.
    """
    stored = named_version(source)
    if stored is None:
        return source
    store, name = stored
    place = store if "://" in store else str(Path(store).expanduser().resolve())
    return f"{place}@{find_version(store, name).id}"


def check_out(store: str, name: str, out: Path, progress: Progress = no_progress) -> Version:
    """Write a version's files into a folder; appears whole or not at all.

    Args:
        store: folder or bucket.
        name: as ``find_version`` takes it.
        out: the folder.
        progress: called with files written and in all.

    Raises:
        InvalidInput: a stored file is damaged, or would leave the folder.
        NotFound: there is no such version.
        StorageError: the store cannot be read, or the disk is full.
    """
    version = find_version(store, name)
    place = open_place(store)
    listed = _files(place, version)
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        for done, (relative, digest) in enumerate(listed.items(), 1):
            target = folder / relative
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                copy = target.open("xb")
            except (FileExistsError, NotADirectoryError) as error:
                raise InvalidInput(
                    f"{store}: version {version.id} has {relative!r} as a file and as a folder"
                ) from error
            with place.opened(_object(digest)) as source, copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)
            if _md5(target) != digest:
                raise InvalidInput(
                    f"{store}: the content of {relative} is damaged; restore {_object(digest)}"
                )
            progress(done, len(listed))
    return version


def compare_versions(store: str, first: str, second: str) -> VersionDifference:
    """What the second of two versions has more, less, or otherwise; raises as ``find_version``."""
    before, after = (open_version(store, name) for name in (first, second))
    return compare_data(before, after)


def open_version(store: str, name: str) -> Dataset:
    """A version without its pictures; ``name`` and errors as in ``find_version``."""
    place, version = open_place(store), find_version(store, name)
    files = _files(place, version)
    try:
        annotations = _object(files[ANNOTATIONS_FILE])
        payload = _read(place, annotations, TypeAdapter(dict[str, Any]))
        for record in payload["images"]:
            # Data that ingest did not write have no hash of their own.
            record.setdefault("sha256", f"md5:{files[f'{IMAGES_FOLDER}/' + record['file_name']]}")
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"version {version.id} of {store} is no data set: {ANNOTATIONS_FILE} and its pictures "
            "are not all there"
        ) from error
    return dataset_from_coco(Path(version.id), payload, Path(version.id))


def compare_data(first: Dataset, second: Dataset) -> VersionDifference:
    """What the second of two versions of a data set has more, less, or otherwise.

    Pictures are the same when their bytes are.

    Raises:
        ImageError: a picture that ingest has not hashed cannot be read.
    """
    before, after = _Content.of(first), _Content.of(second)
    both = before.pictures.keys() & after.pictures.keys()
    same = {name for name in both if before.pictures[name] == after.pictures[name]}
    names = sorted(before.categories.keys() | after.categories.keys())
    counts = {
        name: (before.categories.get(name, 0), after.categories.get(name, 0)) for name in names
    }
    return VersionDifference(
        added=tuple(sorted(after.pictures.keys() - both)),
        removed=tuple(sorted(before.pictures.keys() - both)),
        changed=tuple(sorted(both - same)),
        relabelled=tuple(sorted(n for n in same if before.boxes[n] != after.boxes[n])),
        categories={name: pair for name, pair in counts.items() if pair[0] != pair[1]},
    )


@dataclass(frozen=True)
class _Content:
    """A version's pictures by name, boxes by picture, and boxes by category."""

    pictures: Mapping[str, str]
    boxes: Mapping[str, list[Any]]
    categories: Mapping[str, int]

    @classmethod
    def of(cls, data: Dataset) -> _Content:
        names = data.category_names
        boxes = {}
        for index, image in enumerate(data.images):
            rows = data.annotations_of(index)
            kinds = [names[number] for number in data.category_ids[rows].tolist()]
            crowds = data.is_crowd[rows].tolist()
            boxes[image.file_name] = sorted(
                zip(kinds, data.boxes[rows].tolist(), crowds, strict=True)
            )
        try:
            pictures = {
                image.file_name: image.sha256 or f"md5:{_md5(data.path_of(index))}"
                for index, image in enumerate(data.images)
            }
        except OSError as error:
            raise ImageError(
                f"{error.filename}: {error.strerror}; ingest the source again"
            ) from error
        return cls(pictures, boxes, _boxes_by_category(data))


def _files(place: Place, version: Version) -> dict[str, str]:
    """MD5 of each file of a version, by its path below the data set's folder."""
    listed = _read(place, f"{_object(version.id)}.dir", TypeAdapter(list[_File]))
    for one in listed:
        if not is_safe_name(one["relpath"]):
            raise InvalidInput(
                f"{place.name}: version {version.id} names {one['relpath'][:80]!r}, which is no "
                "path below its folder"
            )
    return {one["relpath"]: one["md5"] for one in listed}


class _File(TypedDict):
    """A file of a version, as DVC lists it."""

    md5: Digest
    relpath: str


def _named_by(file: Path) -> str:
    """The version that a ``.dvc`` file names."""
    try:
        with file.open("rb") as stream:
            text = stream.read(_CHUNK)
        found = TypeAdapter(_DvcFile).validate_python(read_yaml(text))
        return found["outs"][0]["md5"].removesuffix(".dir")
    except (OSError, ValueError, IndexError, yaml.YAMLError) as error:
        raise InvalidInput(
            f"{file}: names no version ({type(error).__name__}); give what gearshift data version "
            "wrote"
        ) from error


class _DvcOut(TypedDict):
    md5: str


class _DvcFile(TypedDict):
    outs: list[_DvcOut]


def _read(place: Place, name: str, kind: TypeAdapter[_Kind]) -> _Kind:
    """A JSON file of the store.

    Raises:
        InvalidInput: it is not of that kind.
        StorageError: it cannot be read.
    """
    try:
        return kind.validate_json(_get(place, name))
    except ValueError as error:
        raise InvalidInput(
            f"{place.name}: {name} is damaged ({type(error).__name__}); restore it"
        ) from error


def _boxes_by_category(data: Dataset) -> dict[str, int]:
    counts = dict.fromkeys(data.category_names.values(), 0)
    for number in data.category_ids.tolist():
        counts[data.category_names[number]] += 1
    return counts


def _object(digest: str) -> str:
    return f"{_OBJECTS}/{digest[:2]}/{digest[2:]}"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class _Objects:
    """Contents of a store; those of one folder are listed once, not asked for one by one."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._there: dict[str, set[str]] = {}

    def add(self, digest: str, source: Path) -> bool:
        """Store a file under its MD5; returns whether it was new."""
        folder = digest[:2]
        if folder not in self._there:
            names = self._place.listed(f"{_OBJECTS}/{folder}", fs.FileType.File)
            self._there[folder] = set(names)
        if digest[2:] in self._there[folder]:
            return False
        self._place.put(_object(digest), source)
        self._there[folder].add(digest[2:])
        return True


def _put(place: Place, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="gearshift-version-") as scratch:
        file = Path(scratch) / "content"
        file.write_bytes(content)
        place.put(name, file)


def _get(place: Place, name: str) -> bytes:
    with place.opened(name) as file:
        return bytes(file.read())
