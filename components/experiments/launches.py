"""Where launches of this machine stand: who runs them, at which step they are, how one is ended.

Nothing here imports a stage or KFP: whoever only looks at the ledger shall not wait for those.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.experiments.attempt import ENDED, Attempt
from components.experiments.ledger import Ledger
from components.experiments.locks import attempt_folder, attempt_lock, holder
from foundation.errors import ConfigurationError, Unavailable

CANCEL_FILE = "cancel"
LOGS_FOLDER = "logs"
"""Below a launch's results: one log for each step."""
SLOT_FILE = "running.lock"
"""Held while a launch of the queue runs, for they run one at a time."""
STEPS_FILE = "steps.json"
_RUNNING = "state = 'running'"
_GRACE = 30.0
"""Seconds that a cancelled run has to end its steps."""


def now() -> str:
    """The time as the ledger writes it: ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def busy(ledger: Ledger) -> bool:
    """Whether a launch of the queue runs on this machine, for which others wait."""
    return holder(ledger.folder / SLOT_FILE) is not None


def cancel(ledger: Ledger, attempt: Attempt) -> Attempt:
    """End a launch that waits or runs on this machine; what it has done so far stays.

    Raises:
        ConfigurationError: it has ended already.
        Unavailable: its process does not end.
        StorageError: MLflow cannot be written to.
    """
    if attempt.state in ENDED:
        raise ConfigurationError(f"{attempt.attempt} has ended already: {attempt.state}")
    lock = attempt_lock(ledger.folder, attempt.attempt)
    process = holder(lock)
    if process is not None:
        (lock.parent / CANCEL_FILE).touch()
        os.kill(process, signal.SIGTERM)
        until = time.monotonic() + _GRACE
        while holder(lock) is not None:
            if time.monotonic() > until:
                raise Unavailable(f"{attempt.attempt} does not end; its process is {process}")
            time.sleep(0.05)
    current = ledger.index.attempt(attempt.attempt)
    if current.state in ("queued", "running", "interrupted"):
        current = replace(current, state="cancelled", ended_at=now(), reason="it was cancelled")
        ledger.store(current)
    return current


def note_interrupted(ledger: Ledger) -> list[Attempt]:
    """Find launches of this machine whose process is gone, and record it in the index.

    What runs on Kubeflow needs no process here, except for a sweep: one chooses its trials.
    """
    if not ledger.index.attempts(_RUNNING):
        return []
    with ledger.index.writing():  # one that ends meanwhile writes its end after this
        lost = [
            replace(one, state="interrupted", reason="its process is gone; resume it")
            for one in ledger.index.attempts(_RUNNING)
            if not one.kubeflow_run and _is_lost(attempt_lock(ledger.folder, one.attempt))
        ]
        ledger.index.put_attempts(lost)
    return lost


def _is_lost(lock: Path) -> bool:
    """Whether a lock has no holder any more; one that was never held here is another machine's."""
    return lock.exists() and holder(lock) is None


def steps_of(ledger: Ledger, attempt: Attempt) -> list[dict[str, Any]]:
    """The steps of a launch in the order in which they began: name, state and seconds."""
    file = attempt_folder(ledger.folder, attempt.attempt) / STEPS_FILE
    try:
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found


def log_of(attempt: Attempt, step: str) -> Path:
    """The log of a step of a launch."""
    return Path(attempt.out) / LOGS_FOLDER / f"{step.replace(' ', '-')}.log"
