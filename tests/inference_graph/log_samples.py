"""Rows for the tests of the prediction log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from inference_graph.contract import Detections
from inference_graph.prediction_log.row import PredictionRow

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def row(event_id: str, **fields: Any) -> PredictionRow:
    return PredictionRow(**{"event_id": event_id, "time": NOON, "source": "stream"} | fields)


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """From (x1, y1, x2, y2, score, label)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))
