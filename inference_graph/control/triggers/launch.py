"""Starting a launch: a process of its own that outlives whoever started it.

The runner (:mod:`inference_graph.control.triggers.runner`) does what was asked for and writes the
outcome to the audit. It inherits the lock that means "one is running", and hands it on to the
command, so the kernel lifts it when the last of them has ended, however they end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from foundation.audit_log import AUDIT, AuditLog
from foundation.errors import Unavailable
from foundation.file_lock import named_failure, try_lock
from foundation.storage import atomic_path
from inference_graph.control.triggers.audit import RuleDecision
from inference_graph.control.triggers.config import TriggersConfig

LAUNCHES_FOLDER = "launches"
RUN_SUFFIX = ".run"
"""Beside a launch's file: the id of its run on Kubeflow."""
_LOCK_FILE = "running.lock"
_ROOT = Path(__file__).resolve().parents[3]


class Slot:
    """The place of the one launch that may run; a context manager, held by who runs."""

    def __init__(self, state: Path) -> None:
        """Nothing is opened yet."""
        self._path = state / _LOCK_FILE
        self._file: BinaryIO | None = None
        self.free = False

    def __enter__(self) -> Slot:
        with named_failure(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
            self.free = try_lock(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()  # whoever inherited it goes on holding the lock

    def fileno(self) -> int:
        """For a process that inherits it."""
        if self._file is None:
            raise RuntimeError("the slot is not open")
        return self._file.fileno()


def start(
    config: TriggersConfig, decision: RuleDecision, slot: Slot, log: AuditLog | None = None
) -> None:
    """Start the runner of a launch and return at once.

    Args:
        config: what is launched.
        decision: that caused it.
        slot: free, and held from now on by what is started.
        log: audit log for the outcome, and for what the command does.

    Raises:
        StorageError: the launch's folder cannot be written.
        Unavailable: no process can be started.
    """
    state = config.state.resolve()
    folder = state / LAUNCHES_FOLDER
    spec: dict[str, Any] = {
        "launch": decision.launch,
        "rule": decision.rule,
        "reason": decision.reason,
        "state": str(state),
        "timeout_seconds": config.limits.timeout_hours * 3600,
        "command": list(config.launch.command),
        "kubeflow": None,
    }
    if config.launch.kubeflow is not None:
        spec["kubeflow"] = asdict(config.launch.kubeflow)
    with atomic_path(folder / f"{decision.launch}.json") as partial:
        partial.write_text(json.dumps(spec, indent=1, default=str), encoding="utf-8")
    _run(folder, decision.launch, slot, log)


def follow(
    config: TriggersConfig,
    launches: Sequence[RuleDecision],
    slot: Slot,
    log: AuditLog | None = None,
) -> bool:
    """Follow a run on Kubeflow whose runner is gone: with its pod, for example.

    Args:
        config: where launches are written down.
        launches: those without an outcome.
        slot: free; held from now on if there is such a run.
        log: audit log for the outcome.

    Returns:
        Whether there is one.

    Raises:
        StorageError, Unavailable: as :func:`start`.
    """
    folder = config.state.resolve() / LAUNCHES_FOLDER
    for one in launches:
        if (folder / f"{one.launch}{RUN_SUFFIX}").is_file():
            _run(folder, one.launch, slot, log)
            return True
    return False


def _run(folder: Path, launch: str, slot: Slot, audit: AuditLog | None) -> None:
    paths = [str(_ROOT / "transformers"), str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if audit is not None:
        environment[AUDIT] = str(audit.path.resolve())
    try:
        with (folder / f"{launch}.log").open("ab") as log:
            process = subprocess.Popen(
                (
                    sys.executable,
                    "-m",
                    "inference_graph.control.triggers",
                    str(folder / f"{launch}.json"),
                    "--slot",
                    str(slot.fileno()),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(slot.fileno(),),
                env=environment,
            )
    except OSError as error:
        raise Unavailable(f"cannot start a process: {error.strerror}; see ulimit -u") from error
    # It runs on its own, but its parent has to take its exit code, or it stays a zombie.
    threading.Thread(target=process.wait, name="launch", daemon=True).start()
