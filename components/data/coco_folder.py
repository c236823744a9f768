"""Where the annotation file and the pictures are in a COCO-format folder.

Layouts met in practice: the canonical one (``annotations.json``, ``images/``), COCO's own
(``annotations/instances_train2017.json``, ``train2017/``), and exports that put one JSON file
beside the pictures. A single folder around any of these, as zips often have, is entered.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER
from components.data.formats import WHAT_TO_GIVE, is_known
from components.data.picture_files import PictureFolders
from foundation.errors import AnnotationError

_OVERHEAD = {"__MACOSX"}
_FRAMES = ("JPEGImages", "frames")
"""Folders of frames in YouTube-VIS's and TAO's archives."""
_DEPTH = 4  # folders within folders that are entered


def enter(folder: Path) -> Path:
    """Return the folder that holds the annotations: ``folder``, or the only one inside it.

    Raises AnnotationError when there is no such folder.
    """
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder; {WHAT_TO_GIVE}")
    place = folder
    for _ in range(_DEPTH):
        if _candidates(place) or is_known(place):
            return place
        inside = _subfolders(place)
        if len(inside) != 1:
            break
        place = inside[0]
    return folder


def find_annotations(folder: Path, wanted: str = "") -> Path:
    """Return the annotation file of a COCO-format folder.

    Args:
        folder: the folder, already entered.
        wanted: name of the file, or its path below the folder; needed where there are several.

    Raises:
        AnnotationError: there is none, none of that name, or several without a name given.
    """
    found = _candidates(folder)
    if not found:
        raise AnnotationError(
            f"{folder}: holds no annotation file ({ANNOTATIONS_FILE}, annotations/*.json or "
            f"*.json), and nothing of another format; {WHAT_TO_GIVE}"
        )
    names = [file.relative_to(folder).as_posix() for file in found]
    if wanted:
        # The chosen file may lie beside the usual places, so any JSON below the folder will do.
        for file in chain(found, folder.glob("**/*.json")):
            if wanted in (file.name, file.relative_to(folder).as_posix(), str(file)):
                return file
        raise AnnotationError(
            f"{folder}: has no annotation file {wanted}; choose one of {', '.join(names)}"
        )
    if len(found) > 1:
        raise AnnotationError(
            f"{folder}: has several annotation files ({', '.join(names)}); "
            "choose one with --annotations"
        )
    return found[0]


def image_folders(folder: Path, annotations: Path) -> PictureFolders:
    """Return the folders in which a picture may be.

    COCO names the pictures' folder in the annotation file: ``instances_train2017.json`` belongs to
    ``train2017``. A folder with another annotation file in it holds other pictures.
    """
    images = folder / IMAGES_FOLDER
    split = annotations.stem.rsplit("_", 1)[-1]
    stated = [
        images / split,
        folder / split,
        images,
        annotations.parent / IMAGES_FOLDER,
        annotations.parent,
        folder,
    ]
    stated += [place / name for place in stated for name in _FRAMES]
    others = [*_subfolders(folder), *(_subfolders(images) if images.is_dir() else [])]
    claimed = {file.parent for file in _candidates(folder)}
    return PictureFolders(
        tuple(place for place in dict.fromkeys(stated) if place.is_dir()),
        tuple(place for place in dict.fromkeys(others) if place not in {*stated, *claimed}),
    )


def _candidates(folder: Path) -> list[Path]:
    if (folder / ANNOTATIONS_FILE).is_file():
        return [folder / ANNOTATIONS_FILE]
    for pattern in ("annotations/*.json", "*.json", "*/*.json"):
        found = sorted(file for file in folder.glob(pattern) if file.is_file())
        if pattern == "*/*.json":
            # One file in each of several folders is the usual train/valid/test export; a single
            # folder is entered instead, so that its own layout counts.
            found = found if len(_subfolders(folder)) > 1 else []
        if found:
            return found
    return []


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        place
        for place in folder.iterdir()
        if place.is_dir() and not place.name.startswith(".") and place.name not in _OVERHEAD
    )
