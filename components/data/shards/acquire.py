"""Stage acquire: a source cut into blocks, each with its annotations and its pictures.

The annotation file is read once, record by record, and spread over the blocks in the order of its
images (``components.data.json_stream``), so the memory does not grow with the file. What comes of
it is kept in the cache. A shard then links or copies the pictures of its own blocks.

A record that collides with another one, by an id or a file name, goes into the other's block: each
block can be checked by itself and nothing that ``check_coco`` finds in the whole is missed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.coco import check_categories, coco_elements, is_id, is_safe_name
from components.data.coco_video import clip_names
from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER
from components.data.image_facts import cache_folder
from components.data.ingest import IngestConfig, source_files, texts_of
from components.data.json_stream import Element
from components.data.picture_files import PictureFolders, link_or_copy, locate
from components.data.shards.blocks import (
    Block,
    StageSummary,
    check_shard,
    key_of,
    names_of,
    share_of,
    stamp,
    stamped,
)
from components.data.source_files import SourceFiles, picture_fault, resolved
from components.data.violations import refuse
from components.parallel import Progress, no_progress
from foundation.configuration import configuration
from foundation.errors import AnnotationError
from foundation.file_lock import file_lock
from foundation.storage import atomic_path, sha256_file

ABOUT_FILE = "about.json"
PLACES_FILE = "places.json"
_NONE = -(1 << 63)
"""Stands for the id of a record that has none; no id is so small."""
_PLAN = 2
"""Version of the files that an annotation file is cut into."""
_BUFFERED = 1 << 20  # characters kept for all blocks before they are written
_LISTS = ("images", "annotations")


@configuration
class AcquireConfig(IngestConfig):
    """How a source is read and cut; the other attributes are IngestConfig's.

    Attributes:
        block: images of a block: what is worked on at once, and what a kill may repeat.
    """

    block: Annotated[int, Field(ge=1)] = 1000


@dataclass(frozen=True)
class About:
    """What a source states of itself, for the data set that its blocks are joined to.

    Attributes:
        annotations: the annotation file.
        annotations_sha256: its hash.
        tolerated: rules whose violations are never an error.
        origin: texts of the file's ``info``.
        archives: SHA-256 of what was fetched, by URL.
        found_elsewhere: pictures whose path is written for another machine.
        home: the usual place of pictures that counts; empty where none holds one.
        blocks: how many.
        violations: of the categories, which all blocks share.
        version: of the store that the source is; see ``SourceFiles``.
    """

    annotations: str
    annotations_sha256: str
    tolerated: tuple[str, ...]
    origin: dict[str, str]
    archives: dict[str, str]
    found_elsewhere: int
    home: str
    blocks: int
    violations: list[dict[str, Any]]
    version: dict[str, str] = field(default_factory=dict)


def acquire(
    source: str,
    out: Path,
    config: AcquireConfig | None = None,
    shard: int = 0,
    shards: int = 1,
    progress: Progress = no_progress,
) -> StageSummary:
    """Cut a source into blocks and write those of one shard.

    Args:
        source: as ``components.data.ingest.ingest`` takes it.
        out: folder of the stage; each block is a COCO-format folder in it.
        config: how to read the source.
        shard: which shard, counted from 0.
        shards: how many there are.
        progress: called with blocks done and in all.

    Raises:
        AnnotationError: no annotation file, several, or a category that is broken or ambiguous.
        InvalidInput: the source cannot be used.
        StorageError: the disk is full.
    """
    config = config or AcquireConfig()
    check_shard(shard, shards)
    found = source_files(source, config, progress, defer_pictures=True)
    plan = _plan(found, config)
    about = read_about(plan)
    home = Path(about.home) if about.home else None
    folders = PictureFolders(found.images.stated, found.images.others, home)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / ABOUT_FILE) as file:
        file.write_text(json.dumps(asdict(about)), encoding="utf-8")
    numbers = share_of(about.blocks, shard, shards)
    names = list(names_of(about.blocks))
    made = 0
    for done, number in enumerate(numbers, 1):
        made += _write_block(plan / names[number], found, folders, out / names[number])
        progress(done, len(numbers))
    return StageSummary(tuple(names[number] for number in numbers), made)


def read_about(folder: Path) -> About:
    """What a source stated of itself, from a folder of this stage."""
    values = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    return About(**{**values, "tolerated": tuple(values["tolerated"])})


def _write_block(plan: Path, found: SourceFiles, folders: PictureFolders, target: Path) -> bool:
    """Write a block unless it is there, made of the same files; returns whether it was made."""
    listed = json.loads(plan.with_suffix(".places").read_bytes())
    names = listed["names"]
    found.fetch(place / name for place in folders.all for name in names)
    files = locate(names, folders)
    facts = []
    for name, candidates in files.items():
        stats = [path.stat() for path in candidates]
        facts.append(f"{name} {[(one.st_size, one.st_mtime_ns) for one in stats]}")
    key = key_of(listed["sha256"], *facts)
    if stamped(target.parent, target.name, target.name, key):
        return False
    faults: dict[str, tuple[str, str]] = {}
    resolved = found.root.resolve()
    with atomic_path(target) as folder:
        (folder / IMAGES_FOLDER).mkdir(parents=True)
        shutil.copyfile(plan.with_suffix(".json"), folder / ANNOTATIONS_FILE)
        shutil.copyfile(plan.with_suffix(".places"), folder / PLACES_FILE)
        for name, candidates in files.items():
            if fault := picture_fault(candidates, resolved):
                faults[name] = fault
                continue
            picture = folder / IMAGES_FOLDER / name
            picture.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(candidates[0], picture)
    stamp(target.parent, Block(target.name, target, key, {"faults": faults, "images": len(names)}))
    return True


def _plan(found: SourceFiles, config: AcquireConfig) -> Path:
    """The folder of the annotations cut into blocks, made where the cache does not have it."""
    facts = found.annotations.stat()
    key = key_of(
        str(found.annotations.resolve()),
        f"{facts.st_size} {facts.st_mtime_ns} {config.block} {config.limit} {config.on_invalid}",
        f"{_PLAN} {found.shown}",
        *map(str, found.images.all),
    )
    place = cache_folder(config.cache) / "plans" / key[:32]
    place.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(place.with_suffix(".lock")):
        if not (place / ABOUT_FILE).is_file():
            with atomic_path(place) as folder:
                folder.mkdir()
                _cut(found, config, folder)
    return place


def _cut(found: SourceFiles, config: AcquireConfig, folder: Path) -> None:
    """Spread the annotation file over files of one block each: NAME.json and NAME.places."""
    file = found.annotations
    shown = found.shown or file
    index = _Index(found)
    for one in coco_elements(file):
        index.add(one)
    for name, many in (("images", index.images), ("annotations", index.owners)):
        if not many:
            raise AnnotationError(f"{shown}: lists no {name}; give annotated data")
    categories, violations = check_categories(index.categories, index.used)
    if config.on_invalid == "error":
        refuse(shown, violations, drop=found.drop)
    blocks = index.blocks(config)
    writer = _Writer(folder, found.origins)
    clips = clip_names(index.videos)
    for one in coco_elements(file):
        if one.place < 0 or one.key not in blocks or blocks[one.key][one.place] < 0:
            continue
        if one.key == "images" and (value := resolved(one.value, found, clips)) is not one.value:
            one = one._replace(value=value, text=json.dumps(value))
        writer.add(int(blocks[one.key][one.place]), one)
    count = max(int(blocks["images"].max()) + 1, 1)
    origin = index.info if isinstance(index.info, dict) else {}
    writer.close(count, categories, origin)
    about = About(
        annotations=str(shown),
        annotations_sha256=sha256_file(file),
        tolerated=tuple(sorted(found.tolerated)),
        origin=texts_of(origin),
        archives=dict(found.archives),
        found_elsewhere=index.elsewhere,
        home=index.home(),
        blocks=count,
        violations=[asdict(one) for one in violations],
        version=dict(found.version),
    )
    (folder / ABOUT_FILE).write_text(json.dumps(asdict(about)), encoding="utf-8")


class _Index:
    """What the records of an annotation file refer to each other by, in a few bytes each."""

    def __init__(self, found: SourceFiles) -> None:
        self.images, self.names = array("q"), array("q")
        self.owners, self.annotations = array("q"), array("q")
        self.categories: list[Any] = []
        self.videos: list[Any] = []
        self.used: set[int] = set()
        self.info: Any = None
        self.elsewhere = 0
        self._found = found
        self._held = [0] * len(found.images.stated)

    def add(self, one: Element) -> None:
        """Add a record."""
        if one.key == "info":
            self.info = one.value
        if one.place < 0:
            return
        if one.key == "images":
            meant = resolved(one.value, self._found, {})
            self.images.append(_number(one.value, "id"))
            self.names.append(self._name(meant))
            if isinstance(meant, dict):
                self.elsewhere += meant.get("file_name") != one.value.get("file_name")
        elif one.key == "annotations":
            self.owners.append(_number(one.value, "image_id"))
            self.annotations.append(_number(one.value, "id"))
            self.used.add(_number(one.value, "category_id"))
        elif one.key == "categories":
            self.categories.append(one.value)
        elif one.key == "videos":
            self.videos.append(one.value)

    def home(self) -> str:
        """The usual place that holds most pictures, the likeliest of equal ones."""
        most = max(self._held, default=0)
        return str(self._found.images.stated[self._held.index(most)]) if most else ""

    def blocks(self, config: AcquireConfig) -> dict[str, NDArray[np.int64]]:
        """The block of each record, by list; -1 for one that is not taken."""
        ids = np.frombuffer(self.images, np.int64)
        taken = np.arange(len(ids))
        if config.limit:
            known = taken[ids != _NONE]
            taken = np.sort(known[np.argsort(ids[known], kind="stable")[: config.limit]])
        images = np.full(len(ids), -1)
        images[taken] = np.arange(len(taken)) // config.block
        for keys in (ids, np.frombuffer(self.names, np.int64)):
            _join_first(images, keys)
        owners = np.frombuffer(self.owners, np.int64)
        first = np.unique(ids, return_index=True)
        place = np.minimum(np.searchsorted(first[0], owners), len(first[0]) - 1)
        known_owner = (first[0][place] == owners) & (owners != _NONE)
        # check_coco reports in any block that an image is not listed.
        astray = -1 if config.limit else 0
        annotations = np.where(known_owner, images[first[1][place]], astray)
        _join_first(annotations, np.frombuffer(self.annotations, np.int64))
        return {"images": images, "annotations": annotations}

    def _name(self, record: Any) -> int:
        name = file_name_of(record)
        if name is None:
            return _NONE
        for place, folder in enumerate(self._found.images.stated):
            self._held[place] += (folder / name).is_file()
            if self._held[0] == len(self.names) + 1:
                break  # the first place holds every picture so far
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, signed=True)


def _join_first(blocks: NDArray[np.int64], keys: NDArray[np.int64]) -> None:
    """Move what has another record's key into the block of the first that has it."""
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) < len(keys):
        there = blocks[first][group]
        move = (keys != _NONE) & (blocks >= 0) & (there >= 0)
        blocks[move] = there[move]


class _Writer:
    """Appends records to the files of their blocks, many at once."""

    def __init__(self, folder: Path, origins: Mapping[str, Sequence[str]]) -> None:
        self._folder, self._origins = folder, origins
        self._texts: dict[str, list[str]] = {}
        self._characters = 0

    def add(self, block: int, one: Element) -> None:
        name = f"{block:06d}.{one.key}"
        self._texts.setdefault(name, []).append(one.text)
        self._texts.setdefault(f"{name}.places", []).append(str(one.place))
        self._characters += len(one.text)
        if self._characters > _BUFFERED:
            self._flush()

    def close(self, count: int, categories: Sequence[Any], info: Mapping[str, Any]) -> None:
        """Put the lists of each block together."""
        self._flush()
        for name in names_of(count):
            lists = {key: self._taken(f"{name}.{key}") for key in _LISTS}
            listed = ", ".join(f'"{key}": [{text}]' for key, text in lists.items())
            rest = f'"categories": {json.dumps(categories)}, "info": {json.dumps(info)}'
            text = f"{{{listed}, {rest}}}"
            (self._folder / f"{name}.json").write_text(text, encoding="utf-8")
            records = json.loads(f"[{lists['images']}]")
            named = (file_name_of(record) for record in records)
            texts = {key: self._taken(f"{name}.{key}.places") for key in _LISTS}
            places = {key: json.loads(f"[{listed}]") for key, listed in texts.items()}
            noted = {
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "names": [one for one in named if one is not None],
                **places,
                "origins": {
                    key: [own[n] for n in places[key]] for key, own in self._origins.items()
                },
            }
            (self._folder / f"{name}.places").write_text(json.dumps(noted), encoding="utf-8")

    def _flush(self) -> None:
        for name, texts in self._texts.items():
            with (self._folder / name).open("a", encoding="utf-8") as stream:
                stream.write((", " if stream.tell() else "") + ", ".join(texts))
        self._texts.clear()
        self._characters = 0

    def _taken(self, name: str) -> str:
        file = self._folder / name
        if not file.exists():
            return ""
        text = file.read_text(encoding="utf-8")
        file.unlink()
        return text


def file_name_of(record: Any) -> str | None:
    """The file name of an image's record, as a path; None where it has none that is safe."""
    name = record.get("file_name") if isinstance(record, dict) else None
    return str(PurePosixPath(name)) if isinstance(name, str) and is_safe_name(name) else None


def _number(record: Any, name: str) -> int:
    value = record.get(name) if isinstance(record, dict) else None
    return value if is_id(value) else _NONE
