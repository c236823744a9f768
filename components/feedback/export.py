"""Feedback as a COCO-format folder: for an annotation tool, and back by ``feedback import``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.dataset import dataset_from_coco, save_dataset
from components.feedback.item import FeedbackItem
from components.feedback.records import read_annotated, write_pictures
from components.feedback.store import FeedbackStore
from foundation.errors import ConfigurationError, InvalidInput


@dataclass(frozen=True)
class FeedbackExportSummary:
    """What was written.

    Attributes:
        images: pictures.
        objects: boxes.
        without_picture: items that are left out, because their picture is gone or damaged.
    """

    images: int
    objects: int
    without_picture: int


def export_feedback(
    store: FeedbackStore, items: Sequence[FeedbackItem], out: Path
) -> FeedbackExportSummary:
    """Write items as a data set folder: ``annotations.json`` in COCO format, and ``images/``.

    Each picture is named by its item, and several items of one picture are several pictures.

    Args:
        store: where they lie.
        items: which ones.
        out: the folder; appears whole or not at all.

    Raises:
        InvalidInput: nothing is left to write.
        ConfigurationError: ``out`` is the store itself.
        StorageError: the log cannot be read, or the disk is full.
    """
    if store.config.store.resolve().is_relative_to(out.resolve()):
        raise ConfigurationError(f"{out}: is or holds the store; choose another output folder")
    records, lost = read_annotated(items, store.pictures(items))
    if not records:
        raise InvalidInput(
            f"none of the {len(items)} items chosen has a picture; see gearshift feedback list"
        )
    classes = store.classes
    payload: dict[str, Any] = {
        "info": {"feedback": {one.file_name: store.describe(one.item) for one in records}},
        "images": [{"id": number, **one.image} for number, one in enumerate(records, 1)],
        "annotations": [],
        "categories": [
            {"id": id, "name": name}
            for id, name in zip(classes.category_ids, classes.names, strict=True)
        ],
    }
    objects = payload["annotations"]
    for number, record in enumerate(records, 1):
        for one in record.objects:
            objects.append({**one, "id": len(objects) + 1, "image_id": number})
    with tempfile.TemporaryDirectory() as scratch:
        files = write_pictures(records, Path(scratch))
        save_dataset(dataset_from_coco(out, payload, out / "annotations.json"), out, files)
    return FeedbackExportSummary(len(records), len(objects), len(lost))
