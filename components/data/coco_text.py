"""COCO-Text's annotation file (Veit et al. 2016, arXiv 1601.07140) as a COCO payload.

It keeps COCO's pictures in ``imgs`` and words in ``anns``, both by id; a word has ``bbox``,
``utf8_string``, and ``legibility``, which is "legible" or "illegible".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.data.coco_payload import CocoPayload
from components.data.json_stream import elements
from foundation.errors import AnnotationError

_LEGIBLE = "legible"
_PARTS = {"train": "train", "val": "validation", "test": "test"}
_SAME_LINE = 0.5
"""Words whose middles differ by less than this share of a word's height are on one line."""


def read_coco_text(file: Path) -> dict[str, Any] | None:
    """Read an annotation file of COCO-Text; None where it is in another format.

    Words come in reading order. What is illegible is kept as a crowd, which no answer has to
    hold; pictures without a legible word are left out.

    Raises:
        AnnotationError: the file is COCO-Text's, and a record lacks a field.
    """
    try:
        if _is_coco(file):
            return None
        payload = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # reading it as COCO's reports what is wrong
    if not isinstance(payload, dict) or not {"imgs", "anns"} <= payload.keys():
        return None
    try:
        return _converted(payload["imgs"], payload["anns"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnnotationError(
            f"{file}: a record lacks a field of COCO-Text, or has one of the wrong type ({error}); "
            "download the annotations again"
        ) from error


def _is_coco(file: Path) -> bool:
    """Whether one of COCO's lists comes first; a large file of COCO's is not read whole for it."""
    for one in elements(file):
        if one.key in ("images", "annotations", "categories"):
            return True
        if one.key in ("imgs", "anns"):
            break
    return False


def _converted(pictures: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    by_picture: dict[int, list[Mapping[str, Any]]] = {}
    for word in words.values():
        by_picture.setdefault(int(word["image_id"]), []).append(word)
    payload = CocoPayload()
    for picture in pictures.values():
        number = int(picture["id"])
        own = by_picture.get(number, [])
        if not any(_legible(word) for word in own):
            continue
        part = _PARTS.get(str(picture.get("set")))
        payload.add_image(
            str(picture["file_name"]),
            (int(picture["width"]), int(picture["height"])),
            id=number,
            attributes={} if part is None else {"part": part},
        )
        for word in _in_reading_order(own):
            legible = _legible(word)
            payload.add_box(
                number,
                1,
                [float(value) for value in word["bbox"]],
                iscrowd=int(not legible),
                text=str(word["utf8_string"]) if legible else "",
            )
    return {"info": {"task": "ocr"}, **payload.content([{"id": 1, "name": "text"}])}


def _legible(word: Mapping[str, Any]) -> bool:
    return word.get("legibility") == _LEGIBLE and bool(str(word.get("utf8_string") or "").strip())


def _in_reading_order(words: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Lines from top to bottom, the words of each from left to right."""
    lines: list[list[Mapping[str, Any]]] = []
    for word in sorted(words, key=_middle):
        if lines and _middle(word) - _middle(lines[-1][0]) < _SAME_LINE * float(word["bbox"][3]):
            lines[-1].append(word)
        else:
            lines.append([word])
    return [word for line in lines for word in sorted(line, key=lambda one: float(one["bbox"][0]))]


def _middle(word: Mapping[str, Any]) -> float:
    return float(word["bbox"][1]) + float(word["bbox"][3]) / 2
