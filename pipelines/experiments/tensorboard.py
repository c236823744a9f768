"""A launch's learning curves for TensorBoard: event files from the refine stage's logs."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from components.experiments.attempt import Attempt
from components.policy.files import LOG_FILE
from foundation.errors import NotFound, Unavailable
from foundation.storage import atomic_path

EVENTS_FOLDER = "tensorboard"


def write_events(attempt: Attempt) -> Path:
    """Write one run of events for each seed, by camera steps; returns their folder.

    Raises:
        NotFound: the launch has left no learning curves here.
        StorageError: the results folder cannot be written.
    """
    out = Path(attempt.out)
    logs = sorted(out.glob(f"policies/seed-*/{LOG_FILE}"))
    if not logs:
        raise NotFound(
            f"{attempt.attempt} left no learning curves in {out}; has it reached refine?"
        )
    from torch.utils.tensorboard import SummaryWriter  # torch takes seconds to load

    with atomic_path(out / EVENTS_FOLDER) as folder:
        for log in logs:
            writer = SummaryWriter(str(folder / log.parent.name))
            with log.open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    step = int(float(row.pop("timesteps")))
                    for name, value in row.items():
                        writer.add_scalar(name, float(value), step)
            writer.close()
    return out / EVENTS_FOLDER


def serve_tensorboard(folder: Path, port: int) -> None:
    """Run TensorBoard on a folder until it is interrupted.

    Raises:
        Unavailable: it cannot be started, or ended with an error of its own.
    """
    command = [
        sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port),
        "--host", "127.0.0.1",
    ]  # fmt: skip
    try:
        code = subprocess.call(command)
    except OSError as error:
        raise Unavailable(f"cannot start TensorBoard: {error.strerror}") from error
    if code > 0:
        raise Unavailable(f"TensorBoard ended with {code}; is port {port} free?")
