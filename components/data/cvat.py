"""CVAT's XML, "for images 1.1" and "for video 1.1", exported with or without its pictures.

::

    annotations.xml
    images/frame_000000.PNG     an export with pictures; images/NAME for images
    video.mp4                   without them, the video that was annotated, whose frames are read

A track's box stands in every frame that it is written for, except where it is ``outside``. A video
becomes a clip. Boxes that are turned and other shapes than boxes are left out: they have no box of
their own in CVAT's file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import cv2

from components.data.coco import ORIGIN
from components.data.voc import parsed_xml
from foundation.errors import AnnotationError
from foundation.storage import atomic_path

ANNOTATIONS_FILE = "annotations.xml"
_VIDEOS = {".mp4", ".avi", ".mkv", ".mov", ".webm"}
_QUALITY = 95
_LARGEST = 1 << 30  # bytes of the file


def cvat_annotations(folder: Path) -> Path | None:
    """CVAT's annotation file in a folder; None without one."""
    file = folder / ANNOTATIONS_FILE
    return file if file.is_file() else None


def read_cvat(file: Path, cache: Path) -> tuple[dict[str, Any], Path]:
    """Read CVAT's XML as a COCO payload.

    Args:
        file: the annotations.
        cache: folder for the frames of a video; the export's own pictures go first.

    Returns:
        The payload, its file names relative to the folder returned beside it.

    Raises:
        AnnotationError: the file is no CVAT export, or its video is missing.
    """
    root = parsed_xml(file, "annotations", "CVAT's annotations.xml", _LARGEST)
    boxes: list[tuple[Any, str, Element, str]] = []
    named: dict[Any, dict[str, Any]] = {}
    place = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    if root.find("image") is not None:
        for number, image in enumerate(root.iter("image"), 1):
            name = image.get("name") or ""
            named[number] = {
                "id": number,
                "file_name": name,
                "width": _whole(image.get("width")),
                "height": _whole(image.get("height")),
                ORIGIN: f"image {name}",
            }
            boxes += [
                (number, box.get("label") or "", box, f"image {name} box {place}")
                for place, box in enumerate(image.iter("box"), 1)
            ]
    else:
        boxes = [
            (
                _whole(box.get("frame")),
                track.get("label") or "",
                box,
                f"track {track.get('id')} frame {box.get('frame')}",
            )
            for track in root.iter("track")
            for box in track.iter("box")
            if box.get("outside") != "1"
        ]
        named, place = _frames(root, file, place, cache)
    kept = [one for one in boxes if float(one[2].get("rotation") or 0) == 0]
    labels = dict.fromkeys(
        [
            *(name.text or "" for name in root.iterfind(".//labels/label/name")),
            *(label for _, label, _, _ in kept),
        ]
    )
    numbers = {label: number for number, label in enumerate(labels, 1)}
    rows = []
    for number, (frame, label, box, origin) in enumerate(kept, 1):
        left, top, right, bottom = (_number(box.get(k)) for k in ("xtl", "ytl", "xbr", "ybr"))
        rows.append(
            {
                "id": number,
                "image_id": named[frame]["id"] if frame in named else -1,
                "category_id": numbers[label],
                "bbox": [left, top, right - left, bottom - top],
                ORIGIN: origin,
            }
        )
    payload = {
        "images": list(named.values()),
        "annotations": rows,
        "categories": [{"id": number, "name": label} for label, number in numbers.items()],
    }
    return payload, place


def _frames(
    root: Element, file: Path, place: Path, cache: Path
) -> tuple[dict[Any, dict[str, Any]], Path]:
    """Records of a video's frames by their number, and the folder that the frames are in."""
    size = root.find(".//original_size")
    if size is None:
        raise AnnotationError(f"{file}: says no original_size; export it as CVAT for video 1.1")
    clip = root.findtext(".//task/name") or root.findtext(".//job/id") or file.parent.name
    found = sorted(place.glob("frame_*"))
    if not found:
        place = cache / "frames" / f"{_key(file)}"
        found = _frames_of_video(file, place)
    named = {}
    for picture in found:
        digits = picture.stem.removeprefix("frame_")
        if digits.isdecimal():
            named[int(digits)] = {
                "id": int(digits) + 1,
                "file_name": picture.name,
                "width": _whole(size.findtext("width")),
                "height": _whole(size.findtext("height")),
                "attributes": {"clip": clip, "frame_index": int(digits)},
            }
    return named, place


def _frames_of_video(file: Path, place: Path) -> list[Path]:
    """Frames of the only video beside the annotations, written once as pictures."""
    videos = sorted(one for one in file.parent.iterdir() if one.suffix.lower() in _VIDEOS)
    if len(videos) != 1:
        raise AnnotationError(
            f"{file}: has no images/frame_*, and {len(videos)} videos lie beside it; "
            "export it with pictures, or put its video there"
        )
    if not place.is_dir():
        capture = cv2.VideoCapture(str(videos[0]))
        with atomic_path(place) as folder:
            folder.mkdir(parents=True)
            number = 0
            while (read := capture.read())[0]:
                target = folder / f"frame_{number:06d}.jpg"
                cv2.imwrite(str(target), read[1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                number += 1
        capture.release()
    return sorted(place.glob("frame_*"))


def _key(file: Path) -> str:
    facts: Iterator[str] = (
        f"{one.name} {one.stat().st_size} {one.stat().st_mtime_ns}"
        for one in sorted(file.parent.iterdir())
        if one.suffix.lower() in _VIDEOS
    )
    return hashlib.sha256("\n".join([str(file.resolve()), *facts]).encode()).hexdigest()[:32]


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _whole(text: str | None) -> int | None:
    value = _number(text)
    return int(value) if math.isfinite(value) else None
