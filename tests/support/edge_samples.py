"""Small bundles, and a device's log, for the tests of the edge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from gateway_samples import ROWS, SIZE, climbing_weights
from tiny_models import MakeDetector, MakePolicy

from inference_graph.contract import LADDER
from inference_graph.prediction_log.row import PredictionRow, SessionSummary
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

NOON = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def small_ladder(make_detector: MakeDetector) -> dict[str, Path]:
    """Nano sees one object on every frame, small two, large three."""
    return {
        rung: make_detector(ROWS[: index + 1], size=SIZE, name=f"{rung}.onnx")
        for index, rung in enumerate(LADDER)
    }


def climbing_policy(make_policy: MakePolicy, **notes: str) -> Path:
    """Nano first, then the rung above the one before."""
    return make_policy(climbing_weights(), (0.1, 0, 0), notes=notes)


def device_rows(device: str, first: int, count: int) -> list[PredictionRow]:
    """Rows of a device, one every 20 minutes, so that they fall into several hours."""
    return [
        PredictionRow(
            event_id=f"{device}-{number}",
            time=NOON + timedelta(minutes=20 * number),
            source="stream",
            session=device,
            frame_id=number,
            rung="nano",
            answered_by="nano",
        )
        for number in range(first, first + count)
    ]


def log_on_device(folder: Path, rows: list[PredictionRow], session: str = "") -> None:
    """Write a closed journal with these rows, and the summary of a session if it is named."""
    with PredictionLog(LogConfig(str(folder), publish=False)) as log:
        for row in rows:
            log.append(row)
        if session:
            log.record_session(
                SessionSummary(
                    session=session,
                    client="says",
                    started=NOON,
                    ended=NOON,
                    frames=1,
                    dropped=0,
                    shares={"nano": 1.0},
                )
            )


def published(log: Path) -> list[dict[str, Any]]:
    """Every row of every part of a log, doubled ones twice."""
    columns = ["event_id", "session"]
    rows: list[dict[str, Any]] = []
    for part in sorted(log.glob("predictions/date=*/hour=*/part-*.parquet")):
        rows += pq.read_table(part, columns=columns, partitioning=None).to_pylist()
    return rows
