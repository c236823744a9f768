"""Learning curves of a launch: each seed's, and their mean with its band."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

MEASURES = {
    "reward": "reward",
    "kl_to_clone": "KL to the clone",
    "entropy": "entropy",
    "explained_variance": "explained variance",
}
"""Columns of the refine stage's log that are drawn, with their headings."""
_LOGS = "policies/seed-*/training.csv"
_STEPS = "timesteps"


@dataclass(frozen=True)
class Band:
    """One measure over the seeds of a launch, where all of them have a row.

    Attributes:
        seeds: how many there are.
        steps: camera steps, rising.
        mean: of the seeds at each step.
        low: the least of the seeds.
        high: the greatest.
    """

    seeds: int
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def read_seeds(out: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Rows of every seed's log by camera step; a log that is broken or not there is left out.

    Args:
        out: results folder of a launch.
    """
    found = {}
    for log in sorted(out.glob(_LOGS)):
        try:
            with log.open(encoding="utf-8", newline="") as stream:
                rows = {
                    int(float(row.pop(_STEPS))): {name: float(row[name]) for name in row}
                    for row in csv.DictReader(stream)
                }
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if rows:
            found[log.parent.name] = rows
    return found


def band_of(out: Path, measure: str) -> Band | None:
    """The mean of a measure over the seeds of a launch; None where no log has it.

    Args:
        out: results folder of the launch.
        measure: a column of the logs, see ``MEASURES``.
    """
    seeds = [
        {step: row[measure] for step, row in rows.items() if measure in row}
        for rows in read_seeds(out).values()
    ]
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    if not steps:
        return None
    columns = [[seed[step] for seed in seeds] for step in steps]
    return Band(
        len(seeds),
        tuple(steps),
        tuple(sum(values) / len(values) for values in columns),
        tuple(map(min, columns)),
        tuple(map(max, columns)),
    )
