"""The stages that need the whole set: the blocks of all shards joined, divided and reported.

A joined data set has the very bytes that ingest, convert and observe write of the whole source.
Blocks are read one after the other, so the memory does not grow with the pictures or the boxes of
the set; what is kept of each image is a few bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np

from components.data.anomalies import Anomaly, AnomalyConfig, joined_anomalies
from components.data.dataset import (
    ANNOTATIONS_FILE,
    IMAGES_FOLDER,
    PARTS,
    load_dataset,
)
from components.data.picture_files import link_or_copy
from components.data.quarantine import QUARANTINE_FOLDER, VIOLATIONS_FILE
from components.data.shards.acquire import About, read_about
from components.data.shards.blocks import Block, blocks_in
from components.data.split import load_split
from components.data.violations import ordered_counts
from components.data.yolo import (
    LABELS_FOLDER,
    PARTS_OF_YOLO,
    SIDECAR,
    YoloSummary,
    write_description,
    yolo_summary,
)
from components.parallel import Progress, no_progress
from foundation.errors import AnnotationError, InvalidInput
from foundation.storage import atomic_path

_COMPACT = (",", ":")


def join_datasets(validated: Sequence[Path], out: Path, progress: Progress = no_progress) -> None:
    """Write the blocks of all shards as one canonical data set.

    Args:
        validated: the shards' folders of the stage validate.
        out: the data set folder; appears whole or not at all.
        progress: called with blocks done and in all.

    Raises:
        AnnotationError: nothing is left of the data.
        InvalidInput: a shard is missing.
        StorageError: the disk is full.
    """
    about = read_about(validated[0])
    blocks = whole(validated, about)
    with atomic_path(out) as folder:
        (folder / IMAGES_FOLDER).mkdir(parents=True)
        digest = hashlib.sha256(about.annotations_sha256.encode())
        dropped: Counter[str] = Counter(one["rule"] for one in about.violations)
        clipped = boxes = 0
        categories: list[Any] = []
        described: dict[str, Any] = {}
        with _Lists(folder, ("images", "annotations")) as lists:
            for done, block in enumerate(blocks, 1):
                payload = json.loads((block.path / ANNOTATIONS_FILE).read_bytes())
                for record in payload["images"]:
                    digest.update(f"\n{record['sha256']} {record['file_name']}".encode())
                    _link(block.path / IMAGES_FOLDER, folder / IMAGES_FOLDER, record["file_name"])
                for name in ("images", "annotations"):
                    lists.add(name, json.dumps(payload[name], separators=_COMPACT)[1:-1])
                dropped.update(payload["info"]["dropped"])
                clipped += payload["info"]["clipped"]
                boxes += len(payload["annotations"])
                categories, described = payload["categories"], payload["info"]
                progress(done, len(blocks))
            if not boxes:
                raise AnnotationError(
                    f"{about.annotations}: nothing is left after dropping broken records; "
                    "correct the data"
                )
            kept = {} if dropped else about.version
            info = {
                **described,
                "source_sha256": kept.get("sha256") or digest.hexdigest(),
                "annotation_file": Path(about.annotations).name,
                "dropped": ordered_counts(dropped),
                "clipped": clipped,
                "origin": about.origin,
                "archives": about.archives,
                **({"version": kept} if kept else {}),
            }
            with (folder / ANNOTATIONS_FILE).open("w", encoding="utf-8") as stream:
                stream.write(f'{{"info":{json.dumps(info, separators=_COMPACT)}')
                lists.write_to(stream, ',"{}":[', "]")
                text = json.dumps(categories, separators=_COMPACT)
                stream.write(f',"categories":{text}}}\n')
        _join_violations(blocks, about, folder)


def whole(folders: Sequence[Path], about: About) -> list[Block]:
    """Blocks of all shards; raises InvalidInput where one is missing."""
    blocks = blocks_in(folders)
    if len(blocks) != about.blocks:
        raise InvalidInput(
            f"{folders[0]}: {len(blocks)} of {about.blocks} blocks are there; run every shard"
        )
    return blocks


def join_observations(observed: Sequence[Path], out: Path) -> int:
    """Write the observations of all shards as one file; returns the number of images.

    Args:
        observed: the shards' folders of the stage observe.
        out: the ``.npz`` file; the same bytes as ``components.data.observe.observe`` writes.
    """
    blocks = blocks_in(observed)
    with atomic_path(out) as file, ZipFile(file, "w", allowZip64=True) as archive:
        count = 0
        for name in ("image_ids", "features", "schema_hash"):
            count = _join_arrays(blocks, name, archive) or count
    return count


def _join_arrays(blocks: Sequence[Block], name: str, archive: ZipFile) -> int:
    """Write one array of all blocks, one block at a time; returns its length."""
    headers = []
    for block in blocks:
        with ZipFile(block.path) as stored, stored.open(f"{name}.npy") as stream:
            np.lib.format.read_magic(stream)
            headers.append(np.lib.format.read_array_header_1_0(stream))
    shape, fortran, dtype = headers[0]
    if shape:
        shape = (sum(one[0][0] for one in headers), *shape[1:])
    with archive.open(f"{name}.npy", "w", force_zip64=True) as target:
        described = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": fortran,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(target, described)
        for block in blocks if shape else blocks[:1]:
            with np.load(block.path, allow_pickle=False) as stored:
                target.write(np.ascontiguousarray(stored[name]).tobytes())
    return int(shape[0]) if shape else 0


def join_yolo(dataset: Path, converted: Sequence[Path], split: Path, out: Path) -> YoloSummary:
    """Write the labels of all shards as one data set in Ultralytics' format, divided by a split.

    Args:
        dataset: the joined data set.
        converted: the shards' folders of the stage convert.
        split: what the split stage wrote.
        out: the folder; appears whole or not at all.
    """
    data = load_dataset(dataset)
    divided = load_split(split)
    parts = {PARTS_OF_YOLO[part]: divided.part(part) for part in PARTS}
    names = list(parts)
    part_of = np.full(len(data), -1, np.int8)
    for number, ids in enumerate(parts.values()):
        part_of[data.index_of(ids)] = number
    boxes = done = 0
    with atomic_path(out) as folder:
        for part in names:
            (folder / IMAGES_FOLDER / part).mkdir(parents=True)
            (folder / LABELS_FOLDER / part).mkdir(parents=True)
        with _Lists(folder, ("images", "crowds"), ", ") as lists:
            sidecar: dict[str, Any] = {}
            for block in blocks_in(converted):
                sidecar = json.loads((block.path / SIDECAR).read_bytes())
                records = []
                for name, record in sidecar["images"].items():
                    picture = Path(name).name
                    part = names[part_of[done]]
                    done += 1
                    _link(
                        block.path / IMAGES_FOLDER / "train", folder / IMAGES_FOLDER / part, picture
                    )
                    label = f"{Path(name).stem}.txt"
                    _link(
                        block.path / LABELS_FOLDER / "train", folder / LABELS_FOLDER / part, label
                    )
                    records.append(f"{json.dumps(f'{part}/{picture}')}: {json.dumps(record)}")
                lists.add("images", ", ".join(records))
                lists.add("crowds", json.dumps(sidecar["crowds"])[1:-1])
                boxes += block.summary["boxes"]
            with (folder / SIDECAR).open("w", encoding="utf-8") as stream:
                stream.write(f'{{"info": {json.dumps(dict(data.info))}')
                lists.write_to(stream, ', "{}": {{', "}", only="images")
                stream.write(f', "categories": {json.dumps(sidecar["categories"])}')
                lists.write_to(stream, ', "{}": [', "]", only="crowds")
                stream.write("}")
        write_description(folder, data, parts)
    return yolo_summary(data, parts, boxes)


def found_in_blocks(anomalies: Sequence[Path], config: AnomalyConfig) -> list[Anomaly]:
    """What the stage anomalies found in all shards."""
    parts = (
        [
            Anomaly(**{**one, "examples": tuple(one["examples"])})
            for one in json.loads(block.path.read_bytes())
        ]
        for block in blocks_in(anomalies)
    )
    return joined_anomalies(parts, config.examples)


def _link(source: Path, target: Path, name: str) -> None:
    place = target / name
    if "/" in name:
        place.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source / name, place)


def _join_violations(blocks: Sequence[Block], about: About, folder: Path) -> None:
    """Violations and quarantines of all blocks as one."""
    files = [file for block in blocks if (file := block.path / VIOLATIONS_FILE).is_file()]
    if files or about.violations:
        with (folder / VIOLATIONS_FILE).open("w", encoding="utf-8") as stream:
            for one in about.violations:
                stream.write(json.dumps({**one, "file": about.annotations}) + "\n")
            for file in files:
                stream.write(file.read_text(encoding="utf-8"))
    kept = [block.path / QUARANTINE_FOLDER for block in blocks]
    kept = [place for place in kept if place.is_dir()]
    if not kept:
        return
    target = folder / QUARANTINE_FOLDER
    (target / IMAGES_FOLDER).mkdir(parents=True)
    records: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    for place in kept:
        payload = json.loads((place / ANNOTATIONS_FILE).read_bytes())
        records["images"] += payload["images"]
        records["annotations"] += payload["annotations"]
        records["categories"] = payload["categories"]
        for picture in sorted((place / IMAGES_FOLDER).rglob("*")):
            if picture.is_file():
                name = picture.relative_to(place / IMAGES_FOLDER).as_posix()
                _link(place / IMAGES_FOLDER, target / IMAGES_FOLDER, name)
    (target / ANNOTATIONS_FILE).write_text(json.dumps(records) + "\n", encoding="utf-8")


class _Lists:
    """Long lists of a JSON file, each kept in a file until it is its turn."""

    def __init__(self, folder: Path, names: Sequence[str], separator: str = ",") -> None:
        self._files: dict[str, IO[str]] = {}
        self._folder, self._names, self._separator = folder, names, separator
        self._stack = ExitStack()

    def __enter__(self) -> _Lists:
        for name in self._names:
            file = (self._folder / f".{name}").open("w+", encoding="utf-8")
            self._files[name] = self._stack.enter_context(file)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for name in self._names:
            (self._folder / f".{name}").unlink()

    def add(self, name: str, text: str) -> None:
        """Add elements, as JSON text without the list's brackets."""
        if text:
            file = self._files[name]
            file.write((self._separator if file.tell() else "") + text)

    def write_to(self, stream: IO[str], head: str, tail: str, only: str = "") -> None:
        """Write the lists, each between a head, which takes its name, and a tail."""
        for name, file in self._files.items():
            if only in ("", name):
                stream.write(head.format(name))
                file.seek(0)
                shutil.copyfileobj(file, stream, 1 << 20)
                stream.write(tail)
