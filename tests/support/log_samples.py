"""Rows for the tests of the prediction log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from inference_graph.prediction_log.row import PredictionRow

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def row(event_id: str, **fields: Any) -> PredictionRow:
    return PredictionRow(**{"event_id": event_id, "time": NOON, "source": "stream"} | fields)
