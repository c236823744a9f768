"""MOTChallenge's sequences: a folder of frames a video, one CSV line a box and frame.

::

    SEQUENCE/seqinfo.ini    name, imDir, imExt, imWidth, imHeight
    SEQUENCE/img1/000001.jpg
    SEQUENCE/gt/gt.txt      frame, track, left, top, width, height, considered, class, visibility

Every sequence becomes a clip. Frames and pixels count from 1. As in MOT's own evaluation, boxes
that are not considered, people on vehicles and still people count neither as found nor as missed:
they become crowds. Distractors, occluders and reflections are no objects and are left out. Source
of the classes: Milan et al., "MOT16: A Benchmark for Multi-Object Tracking", arXiv 1603.00831.
"""

from __future__ import annotations

import configparser
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.data.coco_payload import CocoPayload, number_of
from foundation.errors import AnnotationError

SEQUENCE_FILE = "seqinfo.ini"
_PERSON, _CAR, _BICYCLE, _MOTORCYCLE = 1, 2, 3, 4
_CATEGORIES = {_PERSON: "person", _CAR: "car", _BICYCLE: "bicycle", _MOTORCYCLE: "motorcycle"}
_CLASSES = {1: _PERSON, 2: _PERSON, 3: _CAR, 4: _BICYCLE, 5: _MOTORCYCLE, 7: _PERSON, -1: _PERSON}
_NOT_COUNTED = {2, 7}
_DIGITS = 9
"""Digits of a picture's side; far more are no number to Python."""


def mot_sequences(folder: Path) -> tuple[Path, ...]:
    """Folders of the sequences: a folder itself, or those in it; none where there are none."""
    if (folder / SEQUENCE_FILE).is_file():
        return (folder,)
    found = (file.parent for file in sorted(folder.glob(f"*/{SEQUENCE_FILE}")))
    return tuple(place for place in found if (place / "gt/gt.txt").is_file())


def read_mot(sequences: tuple[Path, ...], root: Path) -> dict[str, Any]:
    """Read sequences as a COCO payload, file names relative to ``root``.

    Lines that cannot be read become annotations without a usable box, which ingest refuses or
    leaves out like any other.

    Raises:
        AnnotationError: a sequence has no frames, no boxes, or a seqinfo.ini without a size.
    """
    payload = CocoPayload()
    for sequence in sequences:
        info = _info(sequence)
        size = _whole(info, "imwidth", sequence), _whole(info, "imheight", sequence)
        clip = info.get("name", sequence.name)
        numbers: dict[int, int] = {}
        for picture in _frames(sequence, info):
            at = {"clip": clip, "frame_index": int(picture.stem) - 1}
            name = picture.relative_to(root).as_posix()
            numbers[int(picture.stem)] = payload.add_image(name, size, attributes=at)
        if not numbers:
            raise AnnotationError(f"{sequence}: has no frames named by number; give MOT's img1")
        boxes = sequence / "gt/gt.txt"
        for line, values in _lines(boxes):
            kind = int(values[7]) if len(values) > 7 and math.isfinite(values[7]) else 1
            if kind not in _CLASSES:
                continue
            known = len(values) >= 6 and math.isfinite(values[0])
            box = values[2:6]
            payload.add_box(
                numbers.get(int(values[0]), -1) if known else -1,
                _CLASSES[kind],
                [box[0] - 1, box[1] - 1, *box[2:]] if known else [],
                f"{boxes.relative_to(root)} line {line}",
                iscrowd=int(kind in _NOT_COUNTED or (len(values) > 6 and values[6] == 0)),
            )
    return payload.content([{"id": number, "name": name} for number, name in _CATEGORIES.items()])


def _frames(sequence: Path, info: dict[str, str]) -> list[Path]:
    """The pictures of a sequence that are named by a number, in its own folder."""
    place = sequence / info.get("imdir", "img1")
    if not place.resolve().is_relative_to(sequence.resolve()):
        raise AnnotationError(
            f"{sequence / SEQUENCE_FILE}: imDir leaves the sequence's folder; give one in it"
        )
    suffix = info.get("imext", ".jpg")
    found = sorted(place.iterdir()) if os.path.isdir(place) else []
    return [one for one in found if one.name.endswith(suffix) and one.stem.isdecimal()]


def _info(sequence: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string((sequence / SEQUENCE_FILE).read_text(encoding="utf-8-sig"))
        return dict(parser["Sequence"])
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        raise AnnotationError(
            f"{sequence / SEQUENCE_FILE}: cannot be read ({type(error).__name__}); "
            "it needs a section [Sequence]"
        ) from error


def _whole(info: dict[str, str], name: str, sequence: Path) -> int:
    text = info.get(name, "")
    if not text.isdecimal() or len(text) > _DIGITS:
        raise AnnotationError(f"{sequence / SEQUENCE_FILE}: {name} is {text[:40]!r}; give pixels")
    return int(text)


def _lines(file: Path) -> Iterator[tuple[int, list[float]]]:
    """Number of each line, and its values."""
    try:
        if not file.is_file():
            raise FileNotFoundError(file)
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f"{file}: cannot be read ({type(error).__name__}); give a sequence with its boxes"
        ) from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, [number_of(word) for word in line.split(",")]
