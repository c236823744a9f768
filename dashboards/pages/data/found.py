"""Data sets that the dashboard shows: those of the runs, and those in the data folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.data.dataset import ANNOTATIONS_FILE, PARTS, Dataset, load_dataset
from components.data.slices import slices_of
from components.data.split import load_split
from dashboards.pages.policies.runs import Run
from foundation.errors import InvalidInput

_RUN_FILE, _VALIDATION_FILE = "run.json", "validation.json"
"""As ``pipelines.training.sealed_run`` and ``components.data.validate`` name them."""


@dataclass(frozen=True)
class KnownData:
    """A data set, and what the stages wrote of it.

    Attributes:
        name: what the page calls it.
        folder: canonical data set folder.
        validation: ``validation.json``; None where the data were not validated.
        split: result of the split stage; None where there is none.
    """

    name: str
    folder: Path
    validation: Path | None
    split: Path | None

    @property
    def data(self) -> Dataset:
        """The data set; read again when its annotations have changed.

        Raises:
            AnnotationError: the folder is no data set any more.
        """
        return _loaded(self.folder, _changed(self.folder / ANNOTATIONS_FILE))

    @property
    def slices(self) -> Mapping[str, tuple[str, ...]]:
        """The slice of each image by kind, and, where it was divided, its part."""
        found = dict(_sliced(self.folder, _changed(self.folder / ANNOTATIONS_FILE)))
        if self.split is not None:
            data, divided = self.data, load_split(self.split)
            parts = ["none"] * len(data)
            for part in PARTS:
                for index in data.index_of(divided.part(part)).tolist():
                    parts[index] = part
            found["part"] = tuple(parts)
        return found

    @property
    def statistics(self) -> Mapping[str, Any] | None:
        """The content of ``validation.json``; raises InvalidInput where it is broken."""
        return None if self.validation is None else _read(self.validation)

    @property
    def imbalance(self) -> tuple[Mapping[str, float], Mapping[str, float]] | None:
        """Of the split and of splits at random, by kind of slice; None without a split."""
        if self.split is None:
            return None
        counts = _read(self.split).get("counts") or {}
        return counts.get("imbalance") or {}, counts.get("random_imbalance") or {}


def find_data(folder: Path, runs: Iterable[Run]) -> dict[str, KnownData]:
    """Data sets by name: those of the runs, the newest first, then those in a folder.

    Args:
        folder: a data set, or a folder of several. Beside a data set NAME are looked for the
            folder NAME-report of the validate stage and the file NAME-split.json.
        runs: of the training pipeline.
    """
    found = []
    for run in runs:
        try:
            place = Path(_read(run.folder / _RUN_FILE)["result"]["dataset"])
        except (InvalidInput, KeyError, TypeError):
            continue
        validation, split = run.folder / "validation" / _VALIDATION_FILE, run.folder / "split.json"
        found.append(KnownData(f"run {run.name}", place, validation, split))
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    for place in (folder, *below):
        report, split = (
            place.with_name(f"{place.name}{ending}") for ending in ("-report", "-split.json")
        )
        found.append(KnownData(place.name, place, report / _VALIDATION_FILE, split))
    known = [
        KnownData(
            one.name,
            one.folder,
            one.validation if one.validation and one.validation.is_file() else None,
            one.split if one.split and one.split.is_file() else None,
        )
        for one in found
        if (one.folder / ANNOTATIONS_FILE).is_file()
    ]
    names = Counter(one.name for one in known)
    return {one.name if names[one.name] == 1 else str(one.folder): one for one in known}


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=4)
def _loaded(folder: Path, _changed: int) -> Dataset:
    return load_dataset(folder)


@lru_cache(maxsize=4)
def _sliced(folder: Path, changed: int) -> Mapping[str, tuple[str, ...]]:
    return slices_of(_loaded(folder, changed))


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} is missing or broken; run its stage again") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{file} is not what its stage writes; run it again")
    return content
