"""What the last drift check found: a small JSON file that dashboard and triggers read.

The check itself is in ``components.drift``; the file stands on this floor, so that what serves may
read it without the libraries that compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from foundation.errors import InvalidInput
from foundation.storage import atomic_path

STATE_FILE = "state.json"

Decision = Literal["none", "watch", "retrain", "unknown"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
WORDS: Mapping[Decision, str] = {
    "none": "no drift",
    "watch": "harmless drift",
    "retrain": "harmful drift",
    "unknown": "too little data",
}
"""How a decision reads."""


@dataclass(frozen=True)
class DriftState:
    """Result of a drift check.

    Attributes:
        decision: "none"; "watch": drift that is not shown to hurt; "retrain": drift that hurts;
            "unknown": too little data.
        sentence: the decision and its reason, in one sentence.
        evidence: what it rests on, one line each, with numbers.
        checked_at: when; aware.
        since: time of the window's first frame; None for a window without any.
        until: time of its last one.
        frames: answers in the window.
        policy_revision: of the policy that answered most of them.
        retained: accuracy retained in the window, 0..1; None where no shadow has looked.
        retained_interval: its 95 % interval; None where there is none.
        reference_retained: accuracy retained on the reference.
        report: the report as a page, relative to this file.
    """

    decision: Decision
    sentence: str
    evidence: tuple[str, ...]
    checked_at: datetime
    since: datetime | None
    until: datetime | None
    frames: int
    policy_revision: str
    retained: float | None
    retained_interval: tuple[float, float] | None
    reference_retained: float | None
    report: str = "report.html"


def write_state(state: DriftState, folder: Path) -> Path:
    """Write ``state.json`` into a folder, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    content = state_content(state)
    with atomic_path(folder / STATE_FILE) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return folder / STATE_FILE


def state_content(state: DriftState) -> dict[str, Any]:
    """A state in types that JSON knows, times in ISO 8601."""
    return {field.name: _plain(getattr(state, field.name)) for field in fields(state)}


def read_state(folder: Path) -> DriftState | None:
    """What the last check left in a folder; None where there was none.

    Raises:
        InvalidInput: the file is broken.
    """
    path = folder / STATE_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["decision"] not in DECISIONS:
            raise ValueError(content["decision"])
        interval = content["retained_interval"]
        return DriftState(
            decision=content["decision"],
            sentence=str(content["sentence"]),
            evidence=tuple(str(line) for line in content["evidence"]),
            checked_at=datetime.fromisoformat(content["checked_at"]),
            since=_time(content["since"]),
            until=_time(content["until"]),
            frames=int(content["frames"]),
            policy_revision=str(content["policy_revision"]),
            retained=_number(content["retained"]),
            retained_interval=None if interval is None else (interval[0], interval[1]),
            reference_retained=_number(content["reference_retained"]),
            report=str(content["report"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidInput(
            f"{path} is no state of a drift check ({type(error).__name__}); "
            "run gearshift drift check again"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
