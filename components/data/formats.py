"""The formats that a source's folder may have, beside COCO's, and how each is read.

``ingest`` and the check of a source before it both ask here, so a format is known to both or to
none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.cvat import cvat_annotations, read_cvat
from components.data.image_facts import FactsCache
from components.data.mot import mot_sequences, read_mot
from components.data.open_images import open_images_annotations, read_open_images
from components.data.voc import picture_folders, read_voc, voc_annotations
from components.data.yolo import description_in, read_yolo
from foundation.errors import AnnotationError

WHAT_TO_GIVE = (
    "give a folder of pictures with annotations (COCO, Ultralytics, Pascal VOC, Open Images, "
    "MOTChallenge or CVAT; texts or transcripts), a zip of one, or its address"
)
"""What messages ask for where a source cannot be read."""


@dataclass(frozen=True)
class Converted:
    """A source read as COCO's.

    Attributes:
        payload: its annotations.
        file: the annotation file, or the folder of such files; messages name it.
        root: folder that no picture's link may leave.
        images: folders that file names are relative to.
    """

    payload: dict[str, Any]
    file: Path
    root: Path
    images: tuple[Path, ...]


def is_known(folder: Path) -> bool:
    """Whether a folder is in one of these formats, as far as a short look shows."""
    return bool(
        description_in(folder)
        or voc_annotations(folder)
        or cvat_annotations(folder)
        or mot_sequences(folder)
        or open_images_annotations(folder)
    )


def read_known(folder: Path, wanted: str, cache: Path, confined: bool = True) -> Converted | None:
    """Read a folder in one of these formats; None for one in none of them.

    Args:
        folder: the folder, or Ultralytics' ``data.yaml``.
        wanted: name of the annotation file, where a format has several.
        cache: folder for facts of images and for the frames of videos.
        confined: whether a ``data.yaml`` may name no folder beside its own.

    Raises:
        AnnotationError: the annotations cannot be read, or there are several and none is wanted.
    """
    if description := description_in(folder):
        with FactsCache(cache / "images.sqlite") as facts:
            payload, root = read_yolo(description, facts, confined)
        return Converted(payload, description, root, (root,))
    if annotations := voc_annotations(folder):
        return Converted(read_voc(annotations), annotations, folder, picture_folders(folder))
    if file := cvat_annotations(folder):
        payload, place = read_cvat(file, cache)
        return Converted(payload, file, place, (place,))
    if sequences := mot_sequences(folder):
        return Converted(read_mot(sequences, folder), folder, folder, (folder,))
    if files := open_images_annotations(folder):
        with FactsCache(cache / "images.sqlite") as facts:
            payload = read_open_images(file := _chosen(folder, files, wanted), folder, facts)
        return Converted(payload, file, folder, (folder,))
    return None


def _chosen(folder: Path, files: tuple[Path, ...], wanted: str) -> Path:
    names = {file.relative_to(folder).as_posix(): file for file in files}
    found = [file for name, file in names.items() if wanted in ("", name, file.name)]
    if len(found) == 1:
        return found[0]
    fault = f"has no annotation file {wanted}" if wanted else "has several annotation files"
    raise AnnotationError(f"{folder}: {fault}; choose one of {', '.join(names)} with --annotations")
