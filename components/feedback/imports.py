"""Feedback from annotation tools: COCO files as CVAT and Label Studio export them.

What comes in passes the checks of ``components.data.ingest``. Tools number their categories as they
like, so classes are matched by name. An import is kept as a data set folder under the hash of its
content and its user; the same one again adds nothing::

    <store>/imports/<key>/data/        annotations.json, images/
    <store>/imports/<key>/import.json  user, time, source
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes, match_classes, nearest
from components.data.dataset import Dataset, load_dataset
from components.data.ingest import IngestConfig, ingest_files, source_files
from components.data.picture_files import PictureFolders, tool_path_resolved
from components.data.source_files import SourceFiles
from components.feedback.item import FeedbackItem
from components.parallel import Progress
from foundation.errors import AnnotationError, InvalidInput, TooManyRequests
from foundation.storage import atomic_path

IMPORTS_FOLDER = "imports"
_FACTS_FILE, _DATA = "import.json", "data"
_CORRECT = "correct"


@dataclass(frozen=True)
class ImportSummary:
    """Result of an import.

    Attributes:
        key: of the import.
        user: whose annotations they are.
        images: pictures in it, all quarantined.
        objects: boxes on them.
        found_elsewhere: pictures that the file names by a path of the tool's own machine.
        dropped: records left out, by kind.
        new: whether it was not there before.
    """

    key: str
    user: str
    images: int
    objects: int
    found_elsewhere: int
    dropped: Mapping[str, int]
    new: bool


def import_annotations(
    folder: Path,
    source: Path,
    images: Path | None,
    user: str,
    classes: Classes,
    renamed: Mapping[str, str],
    per_day: int,
    config: IngestConfig,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> ImportSummary:
    """Take annotations into quarantine.

    Args:
        folder: of the store.
        source: the COCO JSON file, or with ``images`` left out a COCO-format folder or zip.
        images: folder of the pictures that the file names.
        user: whose annotations they are.
        classes: of the detectors; every category in use has to be one of them.
        renamed: class names by the file's names, where the two differ.
        per_day: pictures one user may import in a day (UTC).
        config: how the source is read.
        progress: called with pictures.
        now: the time, aware; this machine's without it.

    Raises:
        AnnotationError: no COCO file, a broken record, or a category that is no class.
        ImageError: a picture is missing, damaged, or has another size than its record states.
        InvalidInput: no user, or a folder that is none.
        TooManyRequests: the user's pictures of today are more than allowed.
        StorageError: the store cannot be written.
    """
    user = user.strip()
    if not user or not user.isprintable() or len(user) > 64:
        raise InvalidInput("no user given; say whose annotations these are with --user NAME")
    time = (now or datetime.now(UTC)).astimezone(UTC)
    place = folder / IMPORTS_FOLDER
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=place) as scratch:
        data = Path(scratch) / _DATA
        read = ingest_files(_files(source, images, config, progress), data, config, progress)
        dataset = load_dataset(data)
        _category_map(dataset, classes, renamed, source)  # refuses before anything is kept
        facts: dict[str, object] = {"user": user, "renamed": dict(sorted(renamed.items()))}
        key = hashlib.sha256(f"{json.dumps(facts)} {read.source_sha256}".encode()).hexdigest()[:16]
        summary = ImportSummary(
            key,
            user,
            read.images,
            read.annotations,
            read.found_elsewhere,
            read.dropped,
            not (place / key).exists(),
        )
        if not summary.new:
            return summary
        today = sum(
            known.images
            for _, known in _facts_of(place)
            if known.user.casefold() == user.casefold() and known.time.date() == time.date()
        )
        if today + read.images > per_day:
            raise TooManyRequests(
                f"{user} imported {today} pictures today, {read.images} more are over the "
                f"{per_day} allowed; import fewer, or come back after midnight UTC"
            )
        facts |= {"time": time.isoformat(), "source": source.name, "images": read.images}
        with atomic_path(place / key) as made:
            made.mkdir()
            shutil.move(data, made / _DATA)
            (made / _FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return summary


def imported_items(folder: Path, classes: Classes) -> list[FeedbackItem]:
    """All imported feedback of a store, one item per picture.

    Raises:
        AnnotationError: an import was damaged.
    """
    items = []
    for data, facts in _facts_of(folder / IMPORTS_FOLDER):
        dataset = load_dataset(data)
        ids = _category_map(dataset, classes, facts.renamed, data)
        for index in range(len(dataset)):
            items.append(_item(dataset, index, ids, facts.user, facts.time))
    return items


def imported_pictures(folder: Path, items: Iterable[FeedbackItem]) -> dict[str, bytes]:
    """Pictures of imported items by item id, as they were imported.

    Raises:
        AnnotationError: an import was damaged.
    """
    wanted = {item.item_id for item in items}
    found: dict[str, bytes] = {}
    for data, facts in _facts_of(folder / IMPORTS_FOLDER) if wanted else ():
        dataset = load_dataset(data)
        for index in range(len(dataset)):
            key = _key(dataset, index, facts.user)
            if key in wanted and key not in found:
                found[key] = dataset.path_of(index).read_bytes()
    return found


def _files(
    source: Path, images: Path | None, config: IngestConfig, progress: Progress | None
) -> SourceFiles:
    """Where the annotations and their pictures lie."""
    if images is None:
        found = source_files(str(source), config, progress)
    elif not images.is_dir():
        raise InvalidInput(f"{images}: no such folder; give the pictures' folder with --images")
    elif not source.is_file():
        raise AnnotationError(f"{source}: no such annotation file; give the tool's COCO export")
    else:
        found = SourceFiles(images, source, PictureFolders((images,)))
    return replace(found, resolve=tool_path_resolved, drop="--drop-invalid")


def _category_map(
    dataset: Dataset, classes: Classes, renamed: Mapping[str, str], source: Path
) -> dict[int, int]:
    """COCO id of every category that is in use, matched by name.

    What the user renamed may become a class that is there already; nothing else may.
    """
    used = set(dataset.category_ids.tolist())
    renaming = [one for one in dataset.categories if one.id in used and one.name in renamed]
    rest = used - {one.id for one in renaming}
    labels = dict(match_classes(dataset.categories, rest, classes, source).labels)
    for one in renaming:
        match = match_classes([replace(one, name=renamed[one.name])], {one.id}, classes, source)
        labels |= match.labels
    for one in dataset.categories:
        if one.id in used - set(labels):
            meant = nearest(renamed.get(one.name, one.name), classes)
            raise AnnotationError(
                f"{source}: category {one.name!r} is no class of the ladder "
                f"({', '.join(classes.names)}); say which one is meant: "
                f"--rename '{one.name}={meant}'"
            )
    return {number: classes.category_ids[label] for number, label in labels.items()}


def _item(
    dataset: Dataset, index: int, ids: Mapping[int, int], user: str, time: datetime
) -> FeedbackItem:
    image, rows = dataset.images[index], dataset.annotations_of(index)
    categories: NDArray[np.int64] = np.array(
        [ids[one] for one in dataset.category_ids[rows].tolist()], np.int64
    )
    return FeedbackItem(
        item_id=_key(dataset, index, user),
        origin="import",
        user=user,
        time=time,
        kind=_CORRECT,
        about=image.file_name,
        frame=image.sha256 or image.file_name,
        note="",
        width=image.width,
        height=image.height,
        boxes=dataset.boxes_xyxy[rows],
        category_ids=categories,
        is_crowd=dataset.is_crowd[rows],
        areas=dataset.areas[rows],
        condition=image.condition,
        clip=image.clip,
        frame_index=image.frame_index,
        part=image.part,
    )


def _key(dataset: Dataset, index: int, user: str) -> str:
    """The same labels on the same picture by the same user have the same key."""
    rows = dataset.annotations_of(index)
    names = {category.id: category.name for category in dataset.categories}
    objects = sorted(
        (names[category], box, *((crowd,) if crowd else ()))
        for category, box, crowd in zip(
            dataset.category_ids[rows].tolist(),
            dataset.boxes[rows].tolist(),
            dataset.is_crowd[rows].tolist(),
            strict=True,
        )
    )
    renaming = [user, dataset.images[index].sha256, objects]
    return hashlib.sha256(json.dumps(renaming).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Facts:
    """What stands in ``import.json``."""

    user: str
    time: datetime
    images: int
    renamed: Mapping[str, str]


def _facts_of(place: Path) -> Iterator[tuple[Path, _Facts]]:
    """Folder of the data and facts of every import, in a fixed order."""
    for file in sorted(place.glob(f"*/{_FACTS_FILE}")):
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            renamed = {str(old): str(new) for old, new in facts["renamed"].items()}
            time = datetime.fromisoformat(facts["time"])
            yield file.parent / _DATA, _Facts(facts["user"], time, int(facts["images"]), renamed)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AnnotationError(
                f"{file}: is damaged; remove its folder and import again"
            ) from error
