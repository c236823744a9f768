"""Results of a batch run: parts that are written whole, so that a later run goes on with them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from components.batch.sources import SourceEntry
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path, remove_temporaries

PLAN, PARTS = "plan.json", "detections"
"""File that states what the results are of, and the folder of the parts."""
_ANSWER = b'{"type":"detections",'
"""How a line begins."""


@dataclass(frozen=True)
class Unit:
    """What is written together: some images, or one video, which has several parts.

    Attributes:
        number: its place in the run.
        entries: the images, or the video.
    """

    number: int
    entries: tuple[SourceEntry, ...]

    @property
    def is_video(self) -> bool:
        """Whether it is a video."""
        return self.entries[0].is_video


def units_of(entries: Sequence[SourceEntry], part_frames: int) -> list[Unit]:
    """Divide a source; the same source is always divided alike."""
    images = [one for one in entries if not one.is_video]
    groups = [tuple(images[at : at + part_frames]) for at in range(0, len(images), part_frames)] + [
        (one,) for one in entries if one.is_video
    ]
    return [Unit(number, group) for number, group in enumerate(groups)]


class ResultFolder:
    """The folder of the results."""

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        """Begin, or go on.

        Args:
            folder: of the results.
            plan: what they are of: the source, the policy, the weights and the options.

        Raises:
            ConfigurationError: the folder holds results of something else.
            StorageError: it cannot be written.
        """
        self.folder = folder
        file, text = folder / PLAN, json.dumps(plan, indent=1) + "\n"
        if file.is_file():
            if file.read_text("utf-8") != text:
                raise ConfigurationError(
                    f"{folder} holds results of another source, policy, ladder or options "
                    f"({PLAN} says which); choose another folder"
                )
            return
        with atomic_path(file) as partial:
            partial.write_text(text, encoding="utf-8")

    def is_done(self, unit: Unit) -> bool:
        """Whether nothing of a unit is left to do."""
        return (self._end(unit) if unit.is_video else self._part(unit, 0)).is_file()

    def parts_done(self, unit: Unit, part_frames: int) -> int:
        """Parts of a video that are there and full; a shorter one ends it and is made again."""
        number = 0
        while (file := self._part(unit, number)).is_file():
            if file.read_bytes().count(_ANSWER) < part_frames:
                break
            number += 1
        return number

    def write(self, unit: Unit, part: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Write a part.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        self._replace(
            self._part(unit, part), b"".join(orjson.dumps(one) + b"\n" for one in records)
        )

    def end(self, unit: Unit, frames: int, lost: int) -> None:
        """Note that a video has no further part."""
        self._replace(self._end(unit), orjson.dumps({"frames": frames, "lost": lost}) + b"\n")

    def counts(self) -> Counter[str]:
        """Frames by rung, ``error``, ``detections`` and ``lost``, of all parts.

        Raises:
            InvalidInput: a part is damaged.
        """
        found: Counter[str] = Counter()
        for record in read_records(self.folder):
            found[record["rung"] if record["type"] == "detections" else "error"] += 1
            found["detections"] += len(record.get("detections", ()))
        for file in (self.folder / PARTS).glob("*.end.json"):
            found["lost"] += int(json.loads(file.read_text("utf-8"))["lost"])
        return found

    def _replace(self, file: Path, content: bytes) -> None:
        """Write a file that no other run writes; what a killed run left of it goes."""
        with atomic_path(file) as partial:
            remove_temporaries(file)
            partial.write_bytes(content)

    def _part(self, unit: Unit, part: int) -> Path:
        return self.folder / PARTS / f"part-{unit.number:06d}-{part:06d}.jsonl"

    def _end(self, unit: Unit) -> Path:
        return self.folder / PARTS / f"part-{unit.number:06d}.end.json"


def merge_results(folders: Sequence[Path], out: Path) -> ResultFolder:
    """Copy the results of all shards of a run into one folder.

    Args:
        folders: one for each shard.
        out: the folder.

    Raises:
        ConfigurationError: they are of different runs.
        StorageError: the folder cannot be written.
    """
    results: ResultFolder | None = None
    for folder in folders:
        results = ResultFolder(out, json.loads((folder / PLAN).read_text("utf-8")))
        for file in (folder / PARTS).glob("part-*"):
            with atomic_path(out / PARTS / file.name) as partial:
                shutil.copyfile(file, partial)
    if results is None:
        raise InvalidInput("there are no results to merge; name one folder at least")
    return results


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Every line of the results, in the order of the source.

    Raises:
        InvalidInput: a part is damaged.
    """
    for file in sorted((folder / PARTS).glob("part-*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise InvalidInput(f"{file} is damaged; remove it and run it again") from error
