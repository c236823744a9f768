"""The canonical data set: a folder with ``annotations.json`` (COCO format) and ``images/``.

Every stage after ingest reads its pictures and boxes through :class:`Dataset`. The folder is plain
COCO plus a few attributes per image, so any COCO tool opens it too::

    annotations.json   images[{id, file_name, width, height, sha256, attributes: {condition,
                       scene_type, clip, frame_index, brightness, dhash, contrast, overexposed,
                       views, time_of_day, place, part, pseudo}}],
                       annotations[{id, image_id, category_id, bbox: [x, y, w, h], area, iscrowd,
                        text (where text is read)}],
                       categories[{id, name}], info{...}
    images/            the files that file_name names
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.data.capture import UNKNOWN
from components.data.coco import coco_elements, fault_of_name, one_line
from components.data.coco_schema import flag
from components.data.packed import Packed
from components.data.picture_files import link_or_copy
from feature_transformer.image import Frame, read_frame
from feature_transformer.makers import DETECTION
from foundation.errors import AnnotationError
from foundation.storage import atomic_path

ANNOTATIONS_FILE = "annotations.json"
IMAGES_FOLDER = "images"
PARTS = ("train", "validation", "test")
SCENE_TYPES = ("sparse", "moderate", "dense")
UNKNOWN_CONDITION = "unknown"

_PIXEL_FACTS = ("contrast", "overexposed", "views")
"""Attributes that data sets of earlier versions lack."""
_CAPTURE = ("time_of_day", "place")

SceneType = Literal["sparse", "moderate", "dense"]
_Array = TypeVar("_Array", bound=NDArray[Any])


def scene_type_of(objects: int) -> SceneType:
    """Scene type by the number of annotated objects: <= 2 sparse, 3 to 7 moderate, >= 8 dense."""
    if objects <= 2:
        return "sparse"
    return "moderate" if objects <= 7 else "dense"


@dataclass(frozen=True)
class DatasetCategory:
    """One kind of object: the data set's id for it and its name."""

    id: int
    name: str


@dataclass(frozen=True)
class ImageRecord:
    """One picture. ``width`` and ``height`` are pixels; ``file_name`` is relative to ``images/``.

    ``clip`` is None for a still; ``frame_index`` counts the frames of a clip from 0.
    ``brightness``, ``dhash``, ``contrast``, ``overexposed`` and ``views`` (see ``image_facts``)
    are None, or empty, where the pixels have not been read.
    ``time_of_day`` and ``place`` are the capture's, by the source's metadata or EXIF.
    ``part`` is the part of an earlier split, one of PARTS, that a new split has to keep; None where
    it may choose.
    ``pseudo``: a detector drew the boxes, not a person.
    """

    id: int
    file_name: str
    width: int
    height: int
    sha256: str | None = None
    condition: str = UNKNOWN_CONDITION
    scene_type: SceneType = "sparse"
    clip: str | None = None
    frame_index: int = 0
    brightness: float | None = None
    dhash: str | None = None
    contrast: float | None = None
    overexposed: float | None = None
    views: str = ""
    time_of_day: str = UNKNOWN
    place: str = UNKNOWN
    part: str | None = None
    pseudo: bool = False


_IMAGE_FIELDS = tuple(one.name for one in fields(ImageRecord))


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames that belong together: ``indexes`` int64[k], positions in the data set in frame order.

    A still is a clip of one frame whose ``name`` is None.
    """

    name: str | None
    indexes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, annotations as arrays, and categories of one data set.

    The M annotations are ordered by the image they belong to (in the order of ``images``);
    ``offsets`` int64[N+1] delimits them, so image ``i`` owns ``offsets[i]:offsets[i + 1]`` of

    - ``annotation_ids`` int64[M],
    - ``boxes`` float64[M, 4], COCO's (x, y, width, height) in pixels,
    - ``category_ids`` int64[M],
    - ``areas`` float64[M], square pixels,
    - ``is_crowd`` bool[M],
    - ``texts`` [M], what each line reads; None where nothing is read.

    The arrays are read-only.
    """

    root: Path
    images: Sequence[ImageRecord]
    categories: tuple[DatasetCategory, ...]
    annotation_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    category_ids: NDArray[np.int64]
    areas: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    info: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def text_of(self, index: int) -> str:
        """The lines of the image at this position, in the order of the annotations."""
        if self.texts is None:
            return ""
        own = self.annotations_of(index)
        lines = zip(self.texts[own], self.is_crowd[own].tolist(), strict=True)
        return "\n".join(text for text, crowd in lines if not crowd)

    @property
    def task(self) -> str:
        """What the annotations are for; a data set that does not name a task is for detection."""
        return str(self.info.get("task", DETECTION))

    @property
    def version(self) -> str:
        """The stored version that the data were ingested from, STORE@ID; empty without one."""
        known = self.info.get("version") or {}
        return f"{known['store']}@{known['id']}" if {"store", "id"} <= known.keys() else ""

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """Ids of the images, int64[N], in the data set's order."""
        return _frozen(np.array([image.id for image in self.images], dtype=np.int64))

    @cached_property
    def boxes_xyxy(self) -> NDArray[np.float64]:
        """Boxes as corners (x1, y1, x2, y2) in pixels, float64[M, 4]."""
        corners = self.boxes.copy()
        corners[:, 2:] += corners[:, :2]
        return _frozen(corners)

    @cached_property
    def object_counts(self) -> NDArray[np.int64]:
        """Number of annotations of each image, int64[N]."""
        return _frozen(np.diff(self.offsets))

    @cached_property
    def category_names(self) -> dict[int, str]:
        """Names of the categories, by id."""
        return {category.id: category.name for category in self.categories}

    @cached_property
    def _by_id(self) -> NDArray[np.int64]:
        return np.argsort(self.image_ids)

    def index_of(self, image_ids: Iterable[int]) -> NDArray[np.int64]:
        """Positions of the given image ids, int64[n]. Raises AnnotationError for an unknown id."""
        wanted = np.array([int(one) for one in image_ids], dtype=np.int64)
        places = np.searchsorted(self.image_ids, wanted, sorter=self._by_id)
        found = self._by_id[np.minimum(places, len(self) - 1)] if len(self) else places
        missing = wanted[self.image_ids[found] != wanted] if len(self) else wanted
        if len(missing):
            raise AnnotationError(
                f"{self.root}: the data set has no image with id {missing[0]}; "
                "use the ids of the same data set"
            )
        return found

    def annotations_of(self, index: int) -> slice:
        """Slice of the annotation arrays that belongs to the image at this position."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def owners_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the images that annotations belong to, int64[n]."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def path_of(self, index: int) -> Path:
        """File of the image at this position."""
        return self.root / IMAGES_FOLDER / self.images[index].file_name

    def read(self, index: int) -> Frame:
        """Decode the image at this position: uint8 [height, width, 3], BGR.

        Raises ImageError, naming the file, when it is missing or damaged.
        """
        return read_frame(self.path_of(index))

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """All clips in the order they first appear; each still is a clip of its own."""
        groups: dict[str | int, list[int]] = {}
        for index, image in enumerate(self.images):
            groups.setdefault(image.clip if image.clip is not None else index, []).append(index)
        found = []
        for key, members in groups.items():
            # sorted() is stable: frames without an index keep the order of the file.
            members.sort(key=lambda index: self.images[index].frame_index)
            name = key if isinstance(key, str) else None
            found.append(Clip(name, _frozen(np.array(members, dtype=np.int64))))
        return tuple(found)

    def subset(self, image_ids: Iterable[int]) -> Dataset:
        """Return the same data set reduced to these images, in the order given.

        Raises AnnotationError for an unknown id.
        """
        chosen = self.index_of(image_ids)
        many = (np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen)
        rows = np.concatenate([np.empty(0, np.int64), *many])
        return replace(
            self,
            images=tuple(self.images[i] for i in chosen),
            annotation_ids=_frozen(self.annotation_ids[rows]),
            boxes=_frozen(self.boxes[rows]),
            category_ids=_frozen(self.category_ids[rows]),
            areas=_frozen(self.areas[rows]),
            is_crowd=_frozen(self.is_crowd[rows]),
            offsets=offsets_of(self.object_counts[chosen]),
            texts=self.texts and tuple(self.texts[row] for row in rows.tolist()),
        )


def load_dataset(root: Path) -> Dataset:
    """Read a canonical data set folder; the pictures themselves are not opened.

    Raises AnnotationError when the folder is no data set, or its annotations are broken.
    """
    file = root / ANNOTATIONS_FILE
    return _dataset(root, ((one.key, one.value) for one in coco_elements(file) if one.text), file)


def dataset_from_coco(root: Path, payload: Mapping[str, Any], file: Path) -> Dataset:
    """Build a Dataset from a COCO payload; ``file`` only names the source in errors.

    A missing scene type is counted from the annotations. Raises AnnotationError for a missing or
    mistyped field, a repeated id, an unsafe file name, an unknown image or an unknown category.
    """
    records = (
        (name, record)
        for name in ("images", "annotations", "categories")
        for record in payload[name]
    )
    return _dataset(root, chain(records, [("info", payload.get("info"))]), file)


def _dataset(root: Path, records: Iterable[tuple[str, Any]], file: Path) -> Dataset:
    offsets = np.zeros(1, np.int64)

    def unpack(place: int, values: tuple[Any, ...]) -> ImageRecord:
        image = ImageRecord(*values)
        if image.scene_type is None:
            objects = int(offsets[place + 1] - offsets[place])
            return replace(image, scene_type=scene_type_of(objects))
        return image

    images = Packed(unpack)
    image_ids = array("q")
    categories: list[DatasetCategory] = []
    numbers = {name: array("q") for name in ("id", "owner", "category")}
    boxes, areas, crowd = array("d"), array("d"), bytearray()
    read: dict[int, str] = {}
    info: Any = None
    try:
        for name, record in records:
            if name == "images":
                images.add(_image(record))
                image_ids.append(int(record["id"]))
                if fault := fault_of_name(str(record["file_name"])):
                    raise AnnotationError(
                        f"{file}: file name {record['file_name'][:80]!r} {fault}; "
                        "run ingest on the source again"
                    )
            elif name == "annotations":
                x, y, width, height = record["bbox"]
                numbers["id"].append(int(record["id"]))
                numbers["owner"].append(int(record["image_id"]))
                numbers["category"].append(int(record["category_id"]))
                boxes.extend((x, y, width, height))
                areas.append(float(record.get("area", width * height)))
                crowd.append(_flag(record, "iscrowd"))
                if "text" in record:
                    read[len(areas) - 1] = str(record["text"])
            elif name == "categories":
                categories.append(DatasetCategory(int(record["id"]), str(record["name"])))
            elif name == "info":
                info = record
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AnnotationError(
            f"{file}: a record lacks a field or has one of the wrong type ({one_line(error)}); "
            "run ingest on the source again"
        ) from error
    ids, annotation_ids, owners, category_ids = (
        np.frombuffer(one, dtype=np.int64) for one in (image_ids, *numbers.values())
    )
    for unique in (ids, annotation_ids):
        if len(np.unique(unique)) != len(unique):
            raise AnnotationError(f"{file}: an id occurs twice; run ingest on the source again")
    by_id = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids, owners, sorter=by_id), len(ids) - 1)
    at = by_id[at] if len(ids) else at
    strangers = owners[ids[at] != owners] if len(ids) else owners
    unknown = category_ids[~np.isin(category_ids, [category.id for category in categories])]
    if len(strangers) or len(unknown):
        what = f"image {strangers.min()}" if len(strangers) else f"category {unknown.min()}"
        raise AnnotationError(
            f"{file}: an annotation points at {what}, which is not listed; "
            "run ingest on the source again"
        )
    # Ingest writes annotations in the images' order; then nothing is copied.
    order = slice(None) if (at[1:] >= at[:-1]).all() else np.argsort(at, kind="stable")
    offsets = offsets_of(np.bincount(at, minlength=len(ids)))
    return Dataset(
        root=root,
        images=images,
        categories=tuple(categories),
        annotation_ids=_frozen(annotation_ids[order]),
        boxes=_frozen(np.frombuffer(boxes, dtype=np.float64).reshape(-1, 4)[order]),
        category_ids=_frozen(category_ids[order]),
        areas=_frozen(np.frombuffer(areas, dtype=np.float64)[order]),
        is_crowd=_frozen(np.frombuffer(crowd, dtype=np.bool_)[order]),
        offsets=offsets,
        info=dict(info or {}),
        texts=tuple(read.get(row, "") for row in np.arange(len(at))[order].tolist())
        if any(read.values())
        else None,
    )


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the annotations of each image begin and the last one's end, of their numbers."""
    return _frozen(np.concatenate(([0], np.cumsum(counts))).astype(np.int64))


def dataset_to_coco(dataset: Dataset) -> dict[str, Any]:
    """Return the COCO payload that :func:`dataset_from_coco` reads back unchanged."""
    images = [
        {
            "id": image.id,
            "file_name": image.file_name,
            "width": image.width,
            "height": image.height,
            "sha256": image.sha256,
            "attributes": {
                "condition": image.condition,
                "scene_type": image.scene_type,
                "clip": image.clip,
                "frame_index": image.frame_index,
                "brightness": image.brightness,
                "dhash": image.dhash,
                **{
                    name: value
                    for name in _PIXEL_FACTS
                    if (value := getattr(image, name)) not in (None, "")
                },
                **{name: value for name in _CAPTURE if (value := getattr(image, name)) != UNKNOWN},
                **({"part": image.part} if image.part is not None else {}),
                **({"pseudo": True} if image.pseudo else {}),
            },
        }
        for image in dataset.images
    ]
    owners = np.repeat(dataset.image_ids, dataset.object_counts)
    annotations = [
        {"id": i, "image_id": owner, "category_id": c, "bbox": b, "area": a, "iscrowd": int(crowd)}
        for i, owner, c, b, a, crowd in zip(
            dataset.annotation_ids.tolist(),
            owners.tolist(),
            dataset.category_ids.tolist(),
            dataset.boxes.tolist(),
            dataset.areas.tolist(),
            dataset.is_crowd.tolist(),
            strict=True,
        )
    ]
    for annotation, text in zip(annotations, dataset.texts or (), strict=False):
        annotation["text"] = text
    categories = [{"id": c.id, "name": c.name} for c in dataset.categories]
    return {
        "info": dict(dataset.info),
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def save_dataset(
    dataset: Dataset,
    out: Path,
    sources: Sequence[Path] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write a data set folder; pictures are linked where the file system allows, else copied.

    Args:
        dataset: what to write.
        out: the folder; appears whole or not at all.
        sources: the file of each image; by default they come from ``dataset.root``.
        beside: writes further files into the folder, before it appears.

    Raises:
        StorageError: the disk is full; nothing is left under ``out`` then.
    """
    files = sources or [dataset.path_of(index) for index in range(len(dataset))]
    with atomic_path(out) as folder:
        (folder / IMAGES_FOLDER).mkdir(parents=True)
        for image, file in zip(dataset.images, files, strict=True):
            target = folder / IMAGES_FOLDER / image.file_name
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(file, target)
        text = json.dumps(dataset_to_coco(dataset), separators=(",", ":"), allow_nan=False)
        (folder / ANNOTATIONS_FILE).write_text(text + "\n", encoding="utf-8")
        if beside is not None:
            beside(folder)


def _image(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of an ImageRecord's fields, in their order."""
    attributes = record.get("attributes") or {}
    scene_type = attributes.get("scene_type")
    clip = attributes.get("clip")
    part = attributes.get("part")
    values = {
        "id": int(record["id"]),
        "file_name": str(record["file_name"]),
        "width": int(record["width"]),
        "height": int(record["height"]),
        "sha256": record.get("sha256"),
        "condition": str(attributes.get("condition") or UNKNOWN_CONDITION),
        "scene_type": scene_type if scene_type in SCENE_TYPES else None,
        "clip": None if clip is None else str(clip),
        "frame_index": int(attributes.get("frame_index") or 0),
        **{one: _number(attributes, one) for one in ("brightness", "contrast", "overexposed")},
        "dhash": _hexadecimal(attributes, "dhash", 16),
        "views": _hexadecimal(attributes, "views", 80) or "",
        **{name: str(attributes.get(name) or UNKNOWN) for name in _CAPTURE},
        "part": part if part in PARTS else None,
        "pseudo": _flag(attributes, "pseudo"),
    }
    return tuple(values[name] for name in _IMAGE_FIELDS)


def _hexadecimal(attributes: Mapping[str, Any], name: str, digits: int) -> str | None:
    value = attributes.get(name)
    known = isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value)
    return value if known else None


def _number(attributes: Mapping[str, Any], name: str) -> float | None:
    value = attributes.get(name)
    return None if value is None else float(value)


def _flag(record: Mapping[str, Any], name: str) -> bool:
    value = flag(record.get(name))
    if value is None:
        raise ValueError(f"{name} is {str(record[name])[:40]!r}, neither 0 nor 1")
    return value


def _frozen(array: _Array) -> _Array:
    array.setflags(write=False)
    return array
