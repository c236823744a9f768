"""Ultralytics' data set format: ``data.yaml``, one text file of boxes beside each picture.

::

    data.yaml               path, train, val, test, names
    images/PART/ID.jpg      linked or copied, named by the image's id
    labels/PART/ID.txt      class x y width height, of the centre, as shares of the picture
    gearshift.json          what the format has no place for: names, ids and attributes of images,
                            ids of categories, and crowds

Crowds and categories without a box are no part of the labels; the summary counts them. With
``gearshift.json`` the way back restores them. Boxes keep their place to a millionth of the picture.
Own code, so that a broken line becomes a violation like any other, and ids and crowds come back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import yaml

from components.data.coco_payload import CocoPayload, size_of
from components.data.dataset import IMAGES_FOLDER, Dataset, dataset_to_coco
from components.data.dataset import load_dataset as load
from components.data.image_facts import FactsCache
from components.data.picture_files import link_or_copy
from components.data.split import load_split
from components.parallel import Progress, no_progress
from foundation.errors import AnnotationError
from foundation.storage import atomic_path
from foundation.yaml_text import read_yaml

DATA_FILE, SIDECAR = "data.yaml", "gearshift.json"
LABELS_FOLDER = "labels"
_LONGEST_DESCRIPTION = 1 << 20
PARTS_OF_YOLO = {"train": "train", "validation": "val", "test": "test"}
_READ_BY_ULTRALYTICS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class YoloSummary:
    """What was written.

    Attributes:
        images: pictures of each part.
        boxes: lines of all label files.
        crowds: boxes of crowds, which the format cannot hold.
        classes: names, by number.
        without_boxes: classes that no box is of.
    """

    images: dict[str, int]
    boxes: int
    crowds: int
    classes: tuple[str, ...]
    without_boxes: tuple[str, ...]


def convert_to_yolo(
    dataset: Path, out: Path, split: Path | None = None, progress: Progress = no_progress
) -> YoloSummary:
    """Write a data set in Ultralytics' format.

    Args:
        dataset: canonical data set folder.
        out: the folder; appears whole or not at all.
        split: what the split stage wrote; without it all images are for training and validation.
        progress: called with images written and in all.

    Raises:
        AnnotationError: the folder is no data set, or the split is of another one.
        StorageError: the disk is full.
    """
    data = load(dataset)
    parts = {"train": data.image_ids}
    if split is not None:
        divided = load_split(split)
        parts = {yolo: divided.part(part) for part, yolo in PARTS_OF_YOLO.items()}
    numbers = {category.id: number for number, category in enumerate(data.categories)}
    names: dict[int, str] = {}
    boxes = done = 0
    with atomic_path(out) as folder:
        for part, ids in parts.items():
            (folder / IMAGES_FOLDER / part).mkdir(parents=True)
            (folder / LABELS_FOLDER / part).mkdir(parents=True)
            for index in data.index_of(ids).tolist():
                picture = _place_picture(data, index, folder / IMAGES_FOLDER / part)
                lines = list(_lines(data, index, numbers))
                label = folder / LABELS_FOLDER / part / f"{picture.stem}.txt"
                label.write_text("".join(lines), encoding="utf-8")
                names[data.images[index].id] = f"{part}/{picture.name}"
                boxes += len(lines)
                done += 1
                progress(done, len(data))
        write_description(folder, data, parts)
        (folder / SIDECAR).write_text(json.dumps(_sidecar(data, names)), encoding="utf-8")
    return yolo_summary(data, parts, boxes)


def yolo_summary(data: Dataset, parts: Mapping[str, Sized], boxes: int) -> YoloSummary:
    """What was written of a data set: images of each part, and lines of all label files."""
    used = set(data.category_ids[~data.is_crowd].tolist())
    return YoloSummary(
        images={part: len(ids) for part, ids in parts.items()},
        boxes=boxes,
        crowds=int(data.is_crowd.sum()),
        classes=tuple(category.name for category in data.categories),
        without_boxes=tuple(one.name for one in data.categories if one.id not in used),
    )


def read_yolo(
    description: Path, facts: FactsCache, confined: bool = False
) -> tuple[dict[str, Any], Path]:
    """Read a data set in Ultralytics' format as a COCO payload.

    Polygons become the boxes around them. Lines that cannot be read become annotations without a
    usable box, which ingest refuses or leaves out like any other. A ``download`` script in
    ``data.yaml`` is never run.

    Args:
        description: the ``data.yaml``.
        facts: sizes of the pictures, which the format does not hold.
        confined: whether ``path`` may name no folder outside of the description's own.

    Returns:
        The payload, its file names relative to the folder returned beside it.

    Raises:
        AnnotationError: the file is no data.yaml, or names no pictures that exist.
    """
    described = _described(description)
    root = _root(description, described, confined)
    pictures = list(_pictures(description, described, root))
    if not pictures:
        raise AnnotationError(
            f"{description}: names no picture below {root}; correct train and val"
        )
    names = described["names"]
    listed = names if isinstance(names, Mapping) else dict(enumerate(names))
    payload = CocoPayload()
    for picture in pictures:
        size = size_of(picture, facts)
        number = payload.add_image(picture.relative_to(root).as_posix(), size)
        label = _label_file(picture)
        shown = label.relative_to(root) if label.is_relative_to(root) else label
        for line, values in _values(label):
            kind = int(values[0]) if values and values[0].is_integer() else -1
            payload.add_box(number, kind, _box(values, size), f"{shown} line {line}")
    content = payload.content([{"id": int(key), "name": str(name)} for key, name in listed.items()])
    sidecar = description.parent / SIDECAR
    return (_restored(content, sidecar) if sidecar.is_file() else content), root


def _place_picture(data: Dataset, index: int, folder: Path) -> Path:
    source = data.path_of(index)
    suffix = PurePosixPath(data.images[index].file_name).suffix.lower()
    stem = f"{data.images[index].id:012d}"
    if suffix in _READ_BY_ULTRALYTICS:
        link_or_copy(source, folder / f"{stem}{suffix}")
        return folder / f"{stem}{suffix}"
    target = folder / f"{stem}.png"
    target.write_bytes(cv2.imencode(".png", data.read(index))[1].tobytes())
    return target


def _lines(data: Dataset, index: int, numbers: Mapping[int, int]) -> Iterator[str]:
    image = data.images[index]
    rows = data.annotations_of(index)
    for box, category, crowd in zip(
        data.boxes[rows].tolist(),
        data.category_ids[rows].tolist(),
        data.is_crowd[rows].tolist(),
        strict=True,
    ):
        if not crowd:
            x, y, width, height = box
            shares = (
                (x + width / 2) / image.width,
                (y + height / 2) / image.height,
                width / image.width,
                height / image.height,
            )
            yield f"{numbers[category]} {' '.join(f'{share:.9g}' for share in shares)}\n"


def write_description(folder: Path, data: Dataset, parts: Mapping[str, Any]) -> None:
    """Write ``data.yaml``."""
    places = {part: f"{IMAGES_FOLDER}/{part}" for part in parts}
    description = {
        "train": places["train"],
        "val": places.get("val", places["train"]),
        **({"test": places["test"]} if "test" in places else {}),
        "names": {number: one.name for number, one in enumerate(data.categories)},
    }
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    (folder / DATA_FILE).write_text(text, encoding="utf-8")


def _sidecar(data: Dataset, names: Mapping[int, str]) -> dict[str, Any]:
    coco = dataset_to_coco(data)
    return {
        "info": coco["info"],
        "images": {names[one["id"]]: one for one in coco["images"] if one["id"] in names},
        "categories": coco["categories"],
        "crowds": [one for one in coco["annotations"] if one["iscrowd"]],
    }


def _restored(payload: dict[str, Any], sidecar: Path) -> dict[str, Any]:
    """The payload with what the sidecar holds of it: names, ids, attributes, crowds."""
    try:
        kept = json.loads(sidecar.read_text(encoding="utf-8"))
        records = {f"{IMAGES_FOLDER}/{name}": one for name, one in kept["images"].items()}
        images, ids = [], {}
        for image in payload["images"]:
            own = records.get(image["file_name"], {})
            ids[image["id"]] = own.get("id", image["id"])
            attributes = own.get("attributes", {})
            images.append({**image, "id": ids[image["id"]], "attributes": attributes})
        numbers = {number: one["id"] for number, one in enumerate(kept["categories"])}
        rows = [
            {
                **row,
                "image_id": ids[row["image_id"]],
                "category_id": numbers.get(row["category_id"], -1),
            }
            for row in payload["annotations"]
        ]
        present = set(ids.values())
        crowds = [one for one in kept["crowds"] if one["image_id"] in present]
        rows += [{**one, "id": len(rows) + number} for number, one in enumerate(crowds, 1)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AnnotationError(
            f"{sidecar}: is not as the conversion wrote it ({type(error).__name__}); delete it to "
            "read the labels alone"
        ) from error
    return {"images": images, "annotations": rows, "categories": kept["categories"]}


def _described(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            text = stream.read(_LONGEST_DESCRIPTION + 1)
        if len(text) > _LONGEST_DESCRIPTION:
            raise AnnotationError(f"{file}: is longer than {_LONGEST_DESCRIPTION} bytes")
        described = read_yaml(text)
    except (OSError, yaml.YAMLError) as error:
        raise AnnotationError(
            f"{file}: cannot be read as YAML ({type(error).__name__}); give Ultralytics' data.yaml"
        ) from error
    if not isinstance(described, dict) or not isinstance(described.get("names"), list | dict):
        raise AnnotationError(f"{file}: has no names; give Ultralytics' data.yaml")
    if not all(str(key).isdecimal() for key in _keys(described["names"])):
        raise AnnotationError(f"{file}: names has keys that are no numbers; number the classes")
    if not all(isinstance(one, str | int | float) for one in _values_of(described["names"])):
        raise AnnotationError(f"{file}: names has entries that are no texts; correct them")
    return described


def _keys(names: Sequence[Any] | Mapping[Any, Any]) -> list[Any]:
    return list(names) if isinstance(names, Mapping) else list(range(len(names)))


def _values_of(names: Sequence[Any] | Mapping[Any, Any]) -> list[Any]:
    return list(names.values()) if isinstance(names, Mapping) else list(names)


def _root(file: Path, described: Mapping[str, Any], confined: bool) -> Path:
    """The folder that paths are relative to: the one named, where it is on this machine."""
    own = file.parent.resolve()
    root = _resolved(own / str(described.get("path") or "."))
    if root is None or not os.path.isdir(root) or (confined and not root.is_relative_to(own)):
        return own
    return root


def _resolved(path: Path) -> Path | None:
    """Where a path leads; None for a text that is no path."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return None


def _pictures(file: Path, described: Mapping[str, Any], root: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for part in PARTS_OF_YOLO.values():
        named = described.get(part) or []
        if not isinstance(named, str | list):
            raise AnnotationError(f"{file}: {part} is {named!r:.40}; give a folder, a list or both")
        for place in [named] if isinstance(named, str) else named:
            for picture in _pictures_at(root, str(place), file):
                if picture not in seen:
                    seen.add(picture)
                    yield picture


def _pictures_at(root: Path, place: str, file: Path) -> list[Path]:
    """Pictures of a folder, or those that a text file lists."""
    # Exports of Roboflow write ../train/images for what lies beside the file.
    choices = (root / place, root / place.removeprefix("../"), file.parent / place)
    path = next((one.resolve() for one in choices if os.path.exists(one)), None)
    if path is None or not path.is_relative_to(root):
        raise AnnotationError(
            f"{file}: {place!r:.80} is not below {root}; correct path, train and val"
        )
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.suffix.lower() in _READ_BY_ULTRALYTICS)
    if not path.is_file():
        raise AnnotationError(
            f"{file}: {place!r:.80} is no folder and no list; correct train and val"
        )
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    listed = [
        (path.parent / line if line.startswith("./") else root / line) for line in lines if line
    ]
    resolved = (_resolved(one) for one in listed)
    return [one for one in resolved if one is not None and one.is_relative_to(root)]


def _label_file(picture: Path) -> Path:
    """As Ultralytics does: the last folder called images becomes labels."""
    head, found, tail = str(picture).rpartition(f"/{IMAGES_FOLDER}/")
    place = Path(f"{head}/{LABELS_FOLDER}/{tail}") if found else picture
    return place.with_suffix(".txt")


def _values(file: Path) -> Iterator[tuple[int, list[float]]]:
    """Number of each line and the numbers in it; none of a line that holds something else."""
    if not os.path.isfile(file):
        return  # a picture without objects
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, [float(word) for word in line.split()]
            except ValueError:
                yield number, []


def _box(values: Sequence[float], size: tuple[int, int]) -> list[float]:
    """Pixels x, y, width, height of a line; too short, and refused so, where it is no box."""
    width, height = size
    if len(values) == 5:
        _, x, y, wide, high = values
        return [(x - wide / 2) * width, (y - high / 2) * height, wide * width, high * height]
    if len(values) >= 7 and len(values) % 2:
        xs, ys = values[1::2], values[2::2]
        left, top = min(xs), min(ys)
        return [left * width, top * height, (max(xs) - left) * width, (max(ys) - top) * height]
    return []


def description_in(place: Path) -> Path | None:
    """The ``data.yaml`` that a path is, or that lies in the folder that it is; None without one."""
    if place.is_file():
        return place if place.suffix.lower() in (".yaml", ".yml") else None
    found = [place / name for name in (DATA_FILE, "data.yml", "dataset.yaml")]
    return next((file for file in found if file.is_file()), None)
