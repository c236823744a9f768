"""Data sets joined into one, so that a policy can learn from old and new data together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes, free_id, match_classes
from components.data.dataset import (
    Dataset,
    DatasetCategory,
    ImageRecord,
    load_dataset,
    offsets_of,
    save_dataset,
)
from feature_transformer.makers import DETECTION
from foundation.errors import ConfigurationError


@dataclass(frozen=True)
class Part:
    """One of the data sets that are joined.

    Attributes:
        name: letters, digits and hyphens; stands before the names of its pictures and clips, so
            that the source of each is known afterwards.
        folder: canonical data set folder.
        parts: by the SHA-256 of a picture's file, the part of a split it has to stay in.
    """

    name: str
    folder: Path
    parts: Mapping[str, str]

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a name that could not begin a file's."""
        if not self.name.replace("-", "").isalnum():
            raise ConfigurationError(
                f"a data set to join is called {self.name!r}; use letters, digits and hyphens"
            )


@dataclass(frozen=True)
class JoinSummary:
    """Images of each data set, in the order given, and annotations of all."""

    images: Mapping[str, int]
    annotations: int


def join(parts: Sequence[Part], out: Path) -> JoinSummary:
    """Write data sets as one: images and annotations numbered anew, categories of all.

    Categories are the same when their names are (see ``components.data.class_names``); the first
    data set's spelling and number stay.

    Args:
        parts: what to join, each under another name.
        out: canonical data set folder to write.

    Returns:
        What was joined.

    Raises:
        AnnotationError: a folder is no data set, or two of its categories mean one of another's.
        ConfigurationError: nothing to join, two data sets of one name, or of different tasks.
        StorageError: the disk is full.
    """
    if not parts or len({part.name for part in parts}) != len(parts):
        raise ConfigurationError("give data sets to join, each under a name of its own")
    found = [load_dataset(part.folder) for part in parts]
    tasks = sorted({data.task for data in found})
    if len(tasks) > 1:
        raise ConfigurationError(
            f"data of {' and of '.join(tasks)} cannot be joined; give one task's"
        )
    images: list[ImageRecord] = []
    files: list[Path] = []
    for part, data in zip(parts, found, strict=True):
        files += [data.path_of(index) for index in range(len(data))]
        images += [
            replace(
                image,
                id=len(images) + number,
                file_name=f"{part.name}/{image.file_name}",
                clip=None if image.clip is None else f"{part.name}/{image.clip}",
                part=part.parts.get(image.sha256 or "", image.part),
                # A person's feedback took the place of what a detector had drawn.
                pseudo=image.pseudo and image.sha256 not in data.info.get("feedback", {}),
            )
            for number, image in enumerate(data.images, 1)
        ]
    categories, numbers = _categories(parts, found)
    digests = "".join(str(data.info.get("source_sha256")) for data in found)
    whole = Dataset(
        root=out,
        images=tuple(images),
        categories=categories,
        annotation_ids=np.arange(1, sum(len(data.boxes) for data in found) + 1),
        boxes=np.concatenate([data.boxes for data in found]),
        category_ids=np.concatenate(numbers),
        areas=np.concatenate([data.areas for data in found]),
        is_crowd=np.concatenate([data.is_crowd for data in found]),
        offsets=offsets_of(np.concatenate([data.object_counts for data in found])),
        info={
            "description": f"joined of {', '.join(part.name for part in parts)}",
            "source_sha256": hashlib.sha256(digests.encode()).hexdigest(),
            **({} if tasks[0] == DETECTION else {"task": tasks[0]}),
        },
        texts=None if tasks[0] == DETECTION else _texts(found),
    )
    save_dataset(whole, out, files)
    return JoinSummary(
        {part.name: len(data) for part, data in zip(parts, found, strict=True)},
        len(whole.boxes),
    )


def joined_from(image: ImageRecord) -> str:
    """Name of the data set that a joined image came from."""
    return image.file_name.partition("/")[0]


def _categories(
    parts: Sequence[Part], found: Sequence[Dataset]
) -> tuple[tuple[DatasetCategory, ...], list[NDArray[np.int64]]]:
    """Categories of all data sets, and the category of every box of each."""
    known: list[DatasetCategory] = []
    numbers = []
    for part, data in zip(parts, found, strict=True):
        there = Classes(tuple(one.name for one in known), tuple(one.id for one in known))
        used = set(data.category_ids.tolist())
        match = match_classes(data.categories, used, there, part.folder)
        new = {number: known[label].id for number, label in match.labels.items()}
        for category in sorted(data.categories, key=lambda one: one.id not in used):
            named = Classes(tuple(one.name for one in known), ()).meant_by(category.name)
            if category.id not in new and (category.id in used or not named):
                number = free_id(category.id, {one.id for one in known})
                known.append(DatasetCategory(number, category.name))
                new[category.id] = number
        numbers.append(np.array([new[one] for one in data.category_ids.tolist()], np.int64))
    return tuple(sorted(known, key=lambda one: one.id)), numbers


def _texts(found: Sequence[Dataset]) -> tuple[str, ...]:
    return tuple(text for data in found for text in (data.texts or ("",) * len(data.boxes)))
