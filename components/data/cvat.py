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

from components.data.coco_payload import CocoPayload, number_of, whole_of
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
    payload = CocoPayload()
    place = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    boxes: list[tuple[int, str, Element, str]] = []
    if root.find("image") is not None:
        for image in root.iter("image"):
            name = image.get("name") or ""
            size = whole_of(image.get("width")), whole_of(image.get("height"))
            number = payload.add_image(name, size, f"image {name}")
            boxes += [
                (number, box.get("label") or "", box, f"image {name} box {count}")
                for count, box in enumerate(image.iter("box"), 1)
            ]
    else:
        frames, place = _frames(root, file, place, cache, payload)
        boxes = [
            (
                frames.get(whole_of(box.get("frame")), -1),
                track.get("label") or "",
                box,
                f"track {track.get('id')} frame {box.get('frame')}",
            )
            for track in root.iter("track")
            for box in track.iter("box")
            if box.get("outside") != "1"
        ]
    for label in root.iterfind(".//labels/label/name"):
        payload.category(label.text or "")
    for number, label_name, box, origin in boxes:
        turned = number_of(box.get("rotation") or "0")
        if turned == 0 or math.isnan(turned):
            sides = (box.get(key) for key in ("xtl", "ytl", "xbr", "ybr"))
            left, top, right, bottom = (number_of(side) + turned for side in sides)
            corners = [left, top, right - left, bottom - top]
            payload.add_box(number, payload.category(label_name), corners, origin)
    return payload.content(), place


def _frames(
    root: Element, file: Path, place: Path, cache: Path, payload: CocoPayload
) -> tuple[dict[int | None, int], Path]:
    """Add a video's frames; returns their ids by number, and the folder that they are in."""
    size = root.find(".//original_size")
    if size is None:
        raise AnnotationError(f"{file}: says no original_size; export it as CVAT for video 1.1")
    clip = root.findtext(".//task/name") or root.findtext(".//job/id") or file.parent.name
    found = sorted(place.glob("frame_*"))
    if not found:
        place = cache / "frames" / f"{_key(file)}"
        found = _frames_of_video(file, place)
    sides = whole_of(size.findtext("width")), whole_of(size.findtext("height"))
    frames: dict[int | None, int] = {}
    for picture in found:
        digits = picture.stem.removeprefix("frame_")
        if digits.isdecimal():
            at = {"clip": clip, "frame_index": int(digits)}
            frames[int(digits)] = payload.add_image(
                picture.name, sides, picture.name, id=int(digits) + 1, attributes=at
            )
    return frames, place


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
