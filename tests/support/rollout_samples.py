"""Rows of a log, a log to write them to, and a rollout's state."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.rows import COLUMNS, Arms
from inference_graph.control.rollout.state import RolloutState
from inference_graph.prediction_log.row import SCHEMA

OLD, NEW, OTHER = "0" * 12, "1" * 12, "2" * 12
ARMS = Arms("small", OLD, NEW, 50, (0.1, 0.1))
NEW_SHA = hashlib.sha256(b"new").hexdigest()


def row(number: int, **fields: Any) -> dict[str, Any]:
    """An answer of the stable revision of small."""
    plain: dict[str, Any] = {
        "event_id": f"e{number}",
        "time": datetime(2026, 11, 21, tzinfo=UTC),
        "source": "stream",
        "session": "s",
        "frame_id": number,
        "policy_revision": "p" * 12,
        "rung": "small",
        "answered_by": "small",
        "revision": OLD,
        "asked": OLD,
        "fallback": "",
        "error": "",
        "queue_ms": 1.0,
        "detect_ms": 9.0,
        "total_ms": 15.0,
        "shadow": False,
        "agreement": None,
        "tags": {},
    }
    return plain | fields


def table(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema([SCHEMA.field(name) for name in COLUMNS])
    listed = [one | {"tags": list(one["tags"].items())} for one in rows]
    return pa.Table.from_pylist(listed, schema)


def state(source: str = "pvc://models/new", **fields: Any) -> RolloutState:
    plain: dict[str, Any] = {
        "rollout": "r1",
        "model": "small",
        "source": source,
        "sha256": NEW_SHA,
        "who": "anna",
        "plan": RolloutPlan(ready_seconds=1.0),
        "started": datetime(2026, 11, 21, tzinfo=UTC),
        "stable": OLD,
        "canary": NEW_SHA[:12],
    }
    return RolloutState(**(plain | fields))
