"""Prediction logs on this machine: folders below the runs that the gateway or a demo wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import SUFFIX

_DEPTH = 4
_MOST_FOLDERS = 5000
"""A folder of runs is small; one that is a whole disk is not searched to its end."""


def find_logs(root: Path) -> dict[Path, datetime]:
    """Logs with rows below a folder, and when each was last written; the newest first."""
    found = {}
    for number, folder in enumerate(_folders(root, _DEPTH)):
        if number >= _MOST_FOLDERS:
            break
        written = last_written(folder)
        if written is not None:
            found[folder] = written
    return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))


def last_written(folder: Path) -> datetime | None:
    """When a log got its newest part or journal; aware, UTC; None where there is no log."""
    hours = (folder / PREDICTIONS.name).glob("date=*/hour=*")
    journals = (folder / "journal" / PREDICTIONS.name).glob(f"*{SUFFIX}")
    try:
        times = [path.stat().st_mtime for path in (*hours, *journals)]
    except OSError:  # an hour that is being removed, or a folder of another user
        return None
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """A folder and those below it, without the insides of a log."""
    yield root
    if not depth or (root / PREDICTIONS.name).is_dir() or (root / "journal").is_dir():
        return
    try:
        with os.scandir(root) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
    except OSError:
        return
    for name in names:
        yield from _folders(root / name, depth - 1)
