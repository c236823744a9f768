"""Learning curves of launches for TensorBoard, several of them on the same axes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.experiments.attempt import Attempt
from components.experiments.curves import MEASURES, band_of, read_seeds
from components.experiments.ledger import Ledger
from components.experiments.results import last_finished
from foundation.errors import NotFound, Unavailable
from foundation.storage import atomic_path

_EVENTS_FOLDER = "tensorboard"


def with_parent(ledger: Ledger, attempt: Attempt) -> tuple[Attempt, ...]:
    """A launch, and before it the last finished one of its experiment's parent, if it has one."""
    known = ledger.known
    parent = known[attempt.experiment].extends if attempt.experiment in known else ""
    before = last_finished(ledger, parent) if parent else None
    return (attempt,) if before is None else (before, attempt)


def write_events(ledger: Ledger, attempts: Sequence[Attempt]) -> Path:
    """Write runs of events by camera steps: of each launch every seed, and their mean.

    Args:
        ledger: the folder of the events lies in it.
        attempts: launches; those that have left no curves are left out.

    Returns:
        The folder, named by the last of them, with one folder for each launch.

    Raises:
        NotFound: the last launch has left no learning curves here.
        StorageError: the folder cannot be written.
    """
    chosen = {one.attempt: read_seeds(Path(one.out)) for one in attempts}
    last = attempts[-1]
    if not chosen[last.attempt]:
        raise NotFound(
            f"{last.attempt} left no learning curves in {last.out}; has it reached refine?"
        )
    from torch.utils.tensorboard import SummaryWriter  # torch takes seconds to load

    place = ledger.folder / _EVENTS_FOLDER / last.attempt
    with atomic_path(place) as folder:
        for one in attempts:
            seeds = chosen[one.attempt]
            for seed, rows in seeds.items():
                writer = SummaryWriter(str(folder / one.attempt / seed))
                for step, row in rows.items():
                    for name, value in row.items():
                        writer.add_scalar(name, value, step)
                writer.close()
            if len(seeds) > 1:
                _write_mean(SummaryWriter(str(folder / one.attempt / "mean")), Path(one.out))
    return place


def _write_mean(writer: Any, out: Path) -> None:
    for measure in MEASURES:
        band = band_of(out, measure)
        for step, value in zip(band.steps, band.mean, strict=True) if band else ():
            writer.add_scalar(measure, value, step)
    writer.close()


def serve_tensorboard(folder: Path, port: int) -> None:
    """Run TensorBoard on a folder until it is interrupted.

    Raises:
        Unavailable: it cannot be started, or ended with an error of its own.
    """
    command = [
        sys.executable,
        *("-m", "tensorboard.main"),
        *("--logdir", str(folder)),
        *("--port", str(port)),
        *("--host", "127.0.0.1"),
    ]
    try:
        code = subprocess.call(command)
    except OSError as error:
        raise Unavailable(f"cannot start TensorBoard: {error.strerror}") from error
    if code > 0:
        raise Unavailable(f"TensorBoard ended with {code}; is port {port} free?")
