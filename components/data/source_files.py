"""Where a source lies, and its pictures looked at: which are there, whole, and of their size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from components.data.coco import CheckedCoco
from components.data.coco_video import with_clip
from components.data.image_facts import FactsCache, ImageFacts
from components.data.picture_files import PictureFolders, Resolve, locate, separators_resolved
from components.data.violations import Violation
from components.parallel import Progress, ordered_map
from feature_transformer.image import Frame
from foundation.errors import ImageError


def nothing_to_fetch(files: Iterable[Path]) -> None:
    """For files whose content is there."""


@dataclass(frozen=True)
class SourceFiles:
    """Where a source lies.

    Attributes:
        root: folder that the result must not replace, and that no picture's link may leave.
        annotations: the annotation file.
        images: folders in which a picture may be.
        tolerated: kinds of broken record that are left out and counted, never refused.
        archives: SHA-256 of what was fetched, by URL.
        resolve: how a record's file name is read.
        drop: the option that leaves broken records out.
        faults: rule and message of pictures that were looked for before and cannot be used, by
            file name.
        shown: what messages name in place of the annotation file: what it was converted from, or
            is a part of.
        origins: by list, where in a source of another format each record was read.
        places: of a part, by list, the position of each record in the whole; a part may hold no
            annotations.
        version: ``id``, ``store`` and ``sha256`` of the stored version that the source is.
        fetch: brings the content of these files where it was deferred.
    """

    root: Path
    annotations: Path
    images: PictureFolders
    tolerated: frozenset[str] = frozenset()
    archives: Mapping[str, str] = field(default_factory=dict)
    resolve: Resolve = separators_resolved
    drop: str = "--on-invalid drop"
    faults: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    shown: Path | None = None
    origins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    places: Mapping[str, Sequence[int]] | None = None
    version: Mapping[str, str] = field(default_factory=dict)
    fetch: Callable[[Iterable[Path]], None] = nothing_to_fetch


@dataclass(frozen=True)
class Pictures:
    """Pictures looked at.

    Attributes:
        found: file and facts of the sound ones, by image id.
        files: the file of each record, by its file name, as far as there is one.
        violations: what is wrong with the others.
        decoded: how many were decoded in this run.
    """

    found: dict[int, tuple[Path, ImageFacts]]
    files: dict[str, Path]
    violations: list[Violation]
    decoded: int


def look_at_pictures(
    checked: CheckedCoco,
    source: SourceFiles,
    cache: FactsCache,
    workers: int,
    progress: Progress | None,
    decoded: Callable[[int, Frame], None] | None,
) -> Pictures:
    """Decode the pictures of sound records, and compare each with its record.

    Args:
        checked: the records.
        source: where the pictures lie.
        cache: facts of the pictures that are known from an earlier run.
        workers: threads that read and decode; 0 is one per core.
        progress: called with pictures done and in all.
        decoded: gets the id and the pixels of each image that is decoded, on any thread.
    """
    files = locate((record["file_name"] for record in checked.images), source.images)
    root = source.root.resolve()

    def look(record: dict[str, Any]) -> tuple[Path, ImageFacts, bool] | Violation:
        name = f"image {record['id']} ({record['file_name']})"
        candidates = files[record["file_name"]]

        def fault(rule: str, message: str) -> Violation:
            place = checked.image_places[record["id"]]
            return Violation(rule, "image", place, record["id"], message, record["file_name"])

        if wrong := source.faults.get(record["file_name"]) or picture_fault(candidates, root):
            return fault(wrong[0], f"the file of {name} {wrong[1]}")
        path = candidates[0]
        try:
            seen = None if decoded is None else partial(decoded, record["id"])
            facts, known = cache.look(path.read_bytes(), seen)
        except (ImageError, OSError) as error:
            return fault("broken_image", f"{name} cannot be decoded: {error}")
        if (facts.width, facts.height) != (record["width"], record["height"]):
            listed = f"{record['width']}x{record['height']}"
            message = f"{name} is {facts.width}x{facts.height} pixels, its record says {listed}"
            return fault("image_size", message)
        return path, facts, known

    found: dict[int, tuple[Path, ImageFacts]] = {}
    violations: list[Violation] = []
    count = 0
    # Closed before the cache is, so that no thread looks anything up in a closed one.
    with closing(ordered_map(look, checked.images, workers)) as results:
        for done, (record, result) in enumerate(zip(checked.images, results, strict=True), start=1):
            if isinstance(result, Violation):
                violations.append(result)
            else:
                path, facts, known = result
                found[record["id"]] = path, facts
                count += not known
            if progress:
                progress(done, len(checked.images))
    single = {
        name: places[0]
        for name, places in files.items()
        if len(places) == 1 and places[0].resolve().is_relative_to(root)
    }
    return Pictures(found, single, violations, count)


def resolved(record: Any, source: SourceFiles, clips: Mapping[str, str]) -> Any:
    """An image's record with the path below the pictures' folders that its file name means.

    A video's frame gets its clip, see ``coco_video.with_clip``. The record itself is returned where
    nothing changes.
    """
    record = with_clip(record, clips)
    name = record.get("file_name") if isinstance(record, dict) else None
    meant = source.resolve(name, source.images.all) if isinstance(name, str) else name
    return record if meant == name else {**record, "file_name": meant}


def picture_fault(candidates: Sequence[Path], root: Path) -> tuple[str, str] | None:
    """The rule that the files that a name means break, and how; None for one that can be read.

    Args:
        candidates: as ``locate`` returns them.
        root: folder that no link may leave, resolved.
    """
    if not candidates:
        return "missing_image", "is missing"
    if len(candidates) > 1:
        choice = f"may be {candidates[0]} or {candidates[1]}"
        return "ambiguous_image", f"{choice}, give its path below the data set"
    leads = candidates[0].resolve()
    if not leads.is_relative_to(root):
        # A data set of another owner could name any picture of this machine.
        return "link_outside", f"is a link that leaves {root}, to {leads}; copy the picture there"
    return None
