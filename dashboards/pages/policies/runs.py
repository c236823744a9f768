"""Folders of pipeline runs, as the demo and the training pipeline leave them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foundation.errors import InvalidInput

REPORT_FILE = "report.json"


@dataclass(frozen=True)
class Run:
    """One run's folder.

    Attributes:
        name: of the folder.
        folder: where it is.
    """

    name: str
    folder: Path

    @cached_property
    def report(self) -> Mapping[str, Any]:
        """The evaluate stage's ``report.json``.

        Raises:
            InvalidInput: it is missing or broken.
        """
        path = self.folder / REPORT_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{path} is missing or broken; run the pipeline again with --out {self.folder}"
            ) from error
        if not isinstance(content, dict):
            raise InvalidInput(f"{path} is no report; run the pipeline again")
        return content

    @property
    def policy(self) -> Path:
        """The policy's ONNX file."""
        return self.folder / "policy.onnx"

    @property
    def replay(self) -> Path:
        """Folder of the label stage: ``profile.parquet`` and ``replay.npz``."""
        return self.folder / "replay"

    @property
    def profile(self) -> Path:
        """One row per image and rung: quality, latency, cost, reward, whether it is optimal."""
        return self.replay / "profile.parquet"

    @property
    def timings(self) -> Path:
        """What each rung was measured to take, and the price of an hour."""
        return self.folder / "timings.json"

    @cached_property
    def policy_revision(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the policy; empty without one."""
        try:
            return hashlib.sha256(self.policy.read_bytes()).hexdigest()[:12]
        except OSError:
            return ""


def find_runs(folder: Path) -> tuple[Run, ...]:
    """Runs in a folder: the folder itself, and those right below it; newest report first.

    A run is called as its folder is, with the folder around it where two are called alike.
    """
    found = [path for path in (folder, *_below(folder)) if (path / REPORT_FILE).is_file()]
    found.sort(key=lambda path: (path / REPORT_FILE).stat().st_mtime, reverse=True)
    by_place = {path.resolve(): path for path in reversed(found)}  # a link is no other run
    names = Counter(place.name for place in by_place)
    return tuple(
        Run(place.name if names[place.name] == 1 else "/".join(place.parts[-2:]), by_place[place])
        for place in reversed(by_place)
    )


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
