"""What the readers of other formats write: a COCO payload, its records numbered as they come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.data.coco import ORIGIN
from components.data.image_facts import FactsCache
from foundation.errors import ImageError


class CocoPayload:
    """Images, annotations and categories.

    What cannot be read stands in the records as it is, or as not a number: ingest refuses such a
    record, or leaves it out, and names its origin.
    """

    def __init__(self) -> None:
        """Nothing is in it yet."""
        self.images: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def add_image(
        self, file_name: str, size: tuple[Any, Any], origin: str = "", **more: Any
    ) -> int:
        """Add an image; returns its id.

        Args:
            file_name: relative to the pictures' folder.
            size: width and height.
            origin: where in the source it was read.
            more: further fields of the record, or another ``id`` than the next.
        """
        number = len(self.images) + 1
        named = {"id": number, "file_name": file_name, "width": size[0], "height": size[1]}
        self.images.append({**named, **more, ORIGIN: origin})
        return int(self.images[-1]["id"])

    def add_box(
        self, image_id: int, category_id: Any, box: Any, origin: str = "", **more: Any
    ) -> None:
        """Add an annotation, with further fields of the record."""
        row = {"id": len(self._rows) + 1, "image_id": image_id, "category_id": category_id}
        self._rows.append({**row, "bbox": box, **more, ORIGIN: origin})

    def category(self, name: str) -> int:
        """The id of a category, which is new where no other has its name."""
        return self._categories.setdefault(name, len(self._categories) + 1)

    def content(self, categories: Sequence[Any] | None = None) -> dict[str, Any]:
        """The payload; ``categories`` where the source numbers them itself."""
        own = [{"id": number, "name": name} for name, number in self._categories.items()]
        return {
            "images": self.images,
            "annotations": self._rows,
            "categories": own if categories is None else list(categories),
        }


def number_of(text: str | None) -> float:
    """The number that a text is; not a number for any other text, and for none."""
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def whole_of(text: str | None) -> int | None:
    """The whole part of the number that a text is; None for any other text."""
    value = number_of(text)
    return int(value) if math.isfinite(value) else None


def size_of(picture: Path | None, facts: FactsCache) -> tuple[int, int]:
    """Width and height of a picture; of one that cannot be read 1x1, and ingest reports it."""
    try:
        if picture is None or not picture.is_file():  # a pipe would be waited for
            return 1, 1
        known, _ = facts.look(picture.read_bytes())
        return known.width, known.height
    except (ImageError, OSError):
        return 1, 1
