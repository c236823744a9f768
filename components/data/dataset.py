"""The canonical data set: a folder with ``annotations.json`` (COCO format) and ``images/``.

Every stage after ingest reads its pictures and boxes through :class:`Dataset`. The folder is plain
COCO plus a few attributes per image, so any COCO tool opens it too::

    annotations.json   images[{id, file_name, width, height, sha256, attributes: {condition,
                       scene_type, clip, frame_index, brightness, dhash, contrast, overexposed,
                       time_of_day, place, part, pseudo}}],
                       annotations[{id, image_id, category_id, bbox: [x, y, w, h], area, iscrowd,
                        text (where text is read)}],
                       categories[{id, name}], info{...}
    images/            the files that file_name names
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.data.capture import UNKNOWN
from components.data.coco import fault_of_name, one_line, read_coco
from components.data.coco_schema import flag
from feature_transformer.image import Frame, read_frame
from feature_transformer.makers import DETECTION
from foundation.errors import AnnotationError
from foundation.storage import atomic_path

ANNOTATIONS_FILE = "annotations.json"
IMAGES_FOLDER = "images"
PARTS = ("train", "validation", "test")
SCENE_TYPES = ("sparse", "moderate", "dense")
UNKNOWN_CONDITION = "unknown"

_PIXEL_FACTS = ("contrast", "overexposed")
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
class Category:
    """One kind of object: the data set's id for it and its name."""

    id: int
    name: str


@dataclass(frozen=True)
class ImageRecord:
    """One picture. ``width`` and ``height`` are pixels; ``file_name`` is relative to ``images/``.

    ``clip`` is None for a still; ``frame_index`` counts the frames of a clip from 0.
    ``brightness``, ``dhash``, ``contrast`` and ``overexposed`` (see ``image_facts``)
    are None where the pixels have not been read.
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
    time_of_day: str = UNKNOWN
    place: str = UNKNOWN
    part: str | None = None
    pseudo: bool = False


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
    images: tuple[ImageRecord, ...]
    categories: tuple[Category, ...]
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
    def _positions(self) -> dict[int, int]:
        return {image.id: index for index, image in enumerate(self.images)}

    def index_of(self, image_ids: Iterable[int]) -> NDArray[np.int64]:
        """Positions of the given image ids, int64[n]. Raises AnnotationError for an unknown id."""
        try:
            return np.array([self._positions[int(i)] for i in image_ids], dtype=np.int64)
        except KeyError as error:
            raise AnnotationError(
                f"{self.root}: the data set has no image with id {error.args[0]}; "
                "use the ids of the same data set"
            ) from None

    def annotations_of(self, index: int) -> slice:
        """Slice of the annotation arrays that belongs to the image at this position."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

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
        counts = self.object_counts[chosen]
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        rows = np.concatenate(
            [np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen]
            or [np.empty(0, dtype=np.int64)]
        ).astype(np.int64)
        return replace(
            self,
            images=tuple(self.images[i] for i in chosen),
            annotation_ids=_frozen(self.annotation_ids[rows]),
            boxes=_frozen(self.boxes[rows]),
            category_ids=_frozen(self.category_ids[rows]),
            areas=_frozen(self.areas[rows]),
            is_crowd=_frozen(self.is_crowd[rows]),
            offsets=_frozen(offsets),
            texts=self.texts and tuple(self.texts[row] for row in rows.tolist()),
        )


def load_dataset(root: Path) -> Dataset:
    """Read a canonical data set folder; the pictures themselves are not opened.

    Raises AnnotationError when the folder is no data set, or its annotations are broken.
    """
    file = root / ANNOTATIONS_FILE
    return dataset_from_coco(root, read_coco(file), file)


def dataset_from_coco(root: Path, payload: Mapping[str, Any], file: Path) -> Dataset:
    """Build a Dataset from a COCO payload; ``file`` only names the source in errors.

    A missing scene type is counted from the annotations. Raises AnnotationError for a missing or
    mistyped field, a repeated id, an unsafe file name, an unknown image or an unknown category.
    """
    try:
        categories = tuple(Category(int(c["id"]), str(c["name"])) for c in payload["categories"])
        rows = payload["annotations"]
        owners = np.array([int(a["image_id"]) for a in rows], dtype=np.int64)
        annotation_ids = np.array([int(a["id"]) for a in rows], dtype=np.int64)
        boxes = np.array([a["bbox"] for a in rows], dtype=np.float64).reshape(len(rows), 4)
        category_ids = np.array([int(a["category_id"]) for a in rows], dtype=np.int64)
        crowd = np.array([_flag(a, "iscrowd") for a in rows], dtype=np.bool_)
        texts = [str(a["text"]) if "text" in a else "" for a in rows]
        areas = np.array(
            [float(a.get("area", a["bbox"][2] * a["bbox"][3])) for a in rows], dtype=np.float64
        )
        counts: dict[int, int] = {}
        for owner in owners.tolist():
            counts[owner] = counts.get(owner, 0) + 1
        images = tuple(_image(record, counts) for record in payload["images"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AnnotationError(
            f"{file}: a record lacks a field or has one of the wrong type ({one_line(error)}); "
            "run ingest on the source again"
        ) from error
    ids = [image.id for image in images]
    positions = {image_id: index for index, image_id in enumerate(ids)}
    if len(positions) != len(ids) or len(set(annotation_ids.tolist())) != len(annotation_ids):
        raise AnnotationError(f"{file}: an id occurs twice; run ingest on the source again")
    for image in images:
        if fault := fault_of_name(image.file_name):
            raise AnnotationError(
                f"{file}: file name {image.file_name[:80]!r} {fault}; "
                "run ingest on the source again"
            )
    strangers = set(counts) - set(positions)
    unknown = set(category_ids.tolist()) - {category.id for category in categories}
    if strangers or unknown:
        what = f"image {min(strangers)}" if strangers else f"category {min(unknown)}"
        raise AnnotationError(
            f"{file}: an annotation points at {what}, which is not listed; "
            "run ingest on the source again"
        )
    at = np.array([positions[owner] for owner in owners.tolist()], dtype=np.int64)
    order = np.argsort(at, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(at, minlength=len(images)))))
    return Dataset(
        root=root,
        images=images,
        categories=categories,
        annotation_ids=_frozen(annotation_ids[order]),
        boxes=_frozen(boxes[order]),
        category_ids=_frozen(category_ids[order]),
        areas=_frozen(areas[order]),
        is_crowd=_frozen(crowd[order]),
        offsets=_frozen(offsets.astype(np.int64)),
        info=dict(payload.get("info") or {}),
        texts=tuple(texts[row] for row in order.tolist()) if any(texts) else None,
    )


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
                    if (value := getattr(image, name)) is not None
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


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy where links are not possible."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        # Another device, a file of another owner, or a file system without links.
        shutil.copyfile(source, target)


def _image(record: Mapping[str, Any], counts: Mapping[int, int]) -> ImageRecord:
    attributes = record.get("attributes") or {}
    scene_type = attributes.get("scene_type")
    if scene_type not in SCENE_TYPES:
        scene_type = scene_type_of(counts.get(int(record["id"]), 0))
    clip = attributes.get("clip")
    part = attributes.get("part")
    return ImageRecord(
        id=int(record["id"]),
        file_name=str(record["file_name"]),
        width=int(record["width"]),
        height=int(record["height"]),
        sha256=record.get("sha256"),
        condition=str(attributes.get("condition") or UNKNOWN_CONDITION),
        scene_type=scene_type,
        clip=None if clip is None else str(clip),
        frame_index=int(attributes.get("frame_index") or 0),
        brightness=_number(attributes, "brightness"),
        dhash=attributes.get("dhash"),
        contrast=_number(attributes, "contrast"),
        overexposed=_number(attributes, "overexposed"),
        **{name: str(attributes.get(name) or UNKNOWN) for name in _CAPTURE},
        part=part if part in PARTS else None,
        pseudo=_flag(attributes, "pseudo"),
    )


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
