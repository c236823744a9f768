"""A COCO payload of inputs with texts, as the sample documents, recordings and folders write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TextPayload:
    """Inputs and their texts, numbered as they come."""

    def __init__(self, task: str, category: str, description: str = "") -> None:
        """No input is in it yet.

        Args:
            task: "ocr" or "speech".
            category: name of the one class that texts are of.
            description: what the inputs are.
        """
        info = {"task": task, "description": description} if description else {"task": task}
        self._images: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        self.content: dict[str, Any] = {
            "info": info,
            "images": self._images,
            "annotations": self._rows,
            "categories": [{"id": 1, "name": category}],
        }

    def __len__(self) -> int:
        """How many inputs are in it."""
        return len(self._images)

    def add(
        self,
        file_name: str,
        size: tuple[int, int],
        attributes: Mapping[str, Any],
        texts: Sequence[tuple[str, Sequence[float]]],
    ) -> None:
        """Add an input.

        Args:
            file_name: relative to the folder of the images.
            size: width and height.
            attributes: of the input; left out where empty.
            texts: each with its box (x, y, width, height).
        """
        number = len(self._images) + 1
        image = {"id": number, "file_name": file_name, "width": size[0], "height": size[1]}
        self._images.append({**image, "attributes": dict(attributes)} if attributes else image)
        for text, box in texts:
            row = {"id": len(self._rows) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            self._rows.append({**row, "bbox": list(box), "text": text})
