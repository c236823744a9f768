"""Data sets joined into one, so that a policy can learn from old and new data together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.dataset import Category, Dataset, ImageRecord, load_dataset, save_dataset
from feature_transformer.errors import AnnotationError, ConfigurationError


@dataclass(frozen=True)
class Part:
    """One of the data sets that are joined.

    Attributes:
        name: letters, digits and hyphens; stands before the names of its pictures and clips, so
            that what came from where can be told afterwards.
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
    """Write data sets as one: images and annotations numbered anew, categories of both.

    Args:
        parts: what to join, each under another name.
        out: canonical data set folder to write.

    Returns:
        What was joined.

    Raises:
        AnnotationError: a folder is no data set, or one category id has two names.
        ConfigurationError: nothing to join, or two data sets of one name.
        StorageError: the disk is full.
    """
    if not parts or len({part.name for part in parts}) != len(parts):
        raise ConfigurationError("give data sets to join, each under a name of its own")
    found = [load_dataset(part.folder) for part in parts]
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
    digests = "".join(str(data.info.get("source_sha256")) for data in found)
    whole = Dataset(
        root=out,
        images=tuple(images),
        categories=_categories(parts, found),
        annotation_ids=np.arange(1, sum(len(data.boxes) for data in found) + 1),
        boxes=np.concatenate([data.boxes for data in found]),
        category_ids=np.concatenate([data.category_ids for data in found]),
        areas=np.concatenate([data.areas for data in found]),
        is_crowd=np.concatenate([data.is_crowd for data in found]),
        offsets=_offsets(found),
        info={
            "description": f"joined of {', '.join(part.name for part in parts)}",
            "source_sha256": hashlib.sha256(digests.encode()).hexdigest(),
        },
    )
    save_dataset(whole, out, files)
    return JoinSummary(
        {part.name: len(data) for part, data in zip(parts, found, strict=True)},
        len(whole.boxes),
    )


def joined_from(image: ImageRecord) -> str:
    """Name of the data set that a joined image came from."""
    return image.file_name.partition("/")[0]


def _categories(parts: Sequence[Part], found: Sequence[Dataset]) -> tuple[Category, ...]:
    names: dict[int, tuple[str, str]] = {}
    for part, data in zip(parts, found, strict=True):
        for category in data.categories:
            known, owner = names.setdefault(category.id, (category.name, part.name))
            if known != category.name:
                raise AnnotationError(
                    f"category {category.id} is {known!r} in {owner} and {category.name!r} in "
                    f"{part.name}; give both the same ids"
                )
    return tuple(Category(number, name) for number, (name, _) in sorted(names.items()))


def _offsets(found: Sequence[Dataset]) -> NDArray[np.int64]:
    counts = np.concatenate([data.object_counts for data in found])
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
