"""Every action of a rollout, with who and when: in the audit log, and in a file of the rollouts.

The audit log is the proof (:mod:`foundation.audit_log`); the file is what
`gearshift rollout history` shows.

::

    {"time": "...", "who": "anna", "action": "start", "rollout": "...", "model": "small",
     "detail": "...", "figures": {...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from foundation.audit_log import AuditLog, audit_of_environment
from foundation.json_lines import Line, appending, read_lines

AUDIT_FILE = "audit.jsonl"
CONTROLLER = "controller"
"""The actor of what no person started."""

Action = Literal["start", "shift", "promote", "promoted", "abort", "roll back", "rolled back"]


def note(
    folder: Path,
    who: str,
    action: Action,
    rollout: str,
    model: str,
    detail: str,
    figures: Mapping[str, Any] | None = None,
    audit: AuditLog | None = None,
) -> None:
    """Write down an action; it is on the disk when this returns.

    Args:
        folder: of the rollouts.
        who: a person's name, or "controller".
        action: what was done or asked for.
        rollout: its id.
        model: what is rolled out.
        detail: why, in a sentence.
        figures: numbers behind it.
        audit: the audit log; that of the environment without it.

    Raises:
        InvalidInput: ``who`` is too long or not printable.
        StorageError: it cannot be written.
    """
    recorded = {"model": model, "detail": detail, **(figures or {})}
    (audit or audit_of_environment()).record(
        who, f"rollout.{action.replace(' ', '-')}", rollout, recorded
    )
    with appending(folder / AUDIT_FILE) as (_, append):
        append(
            {
                "time": datetime.now(UTC).isoformat(),
                "who": who,
                "action": action,
                "rollout": rollout,
                "model": model,
                "detail": detail,
                "figures": dict(figures or {}),
            }
        )


def history(folder: Path) -> list[Line]:
    """All actions, the oldest first; none where there is no file.

    Raises:
        InvalidInput: a line is no JSON object.
        StorageError: the file cannot be read.
    """
    return read_lines(folder / AUDIT_FILE)
