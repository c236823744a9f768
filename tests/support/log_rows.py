"""A log with a bit of everything, written by the log's own writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from feature_transformer.observation import context_features, observation
from inference_graph.contract import LADDER
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
CONDITIONS = ("day", "night", "")


def picture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """A street at dusk, more or less."""
    generator = np.random.default_rng(seed)
    frame = np.full((height, width, 3), (140, 120, 90), np.uint8)
    frame[height // 2 :] = (70, 70, 70)
    for _ in range(4):
        x, y = (
            int(generator.integers(0, width - 30)),
            int(generator.integers(height // 3, height - 20)),
        )
        colour = tuple(int(value) for value in generator.integers(60, 250, 3))
        cv2.rectangle(frame, (x, y), (x + 26, y + 16), colour, cv2.FILLED)
    return frame


def sample_row(index: int, time: datetime, **fields: Any) -> PredictionRow:
    """Row ``index`` of the sample; every field follows from its number."""
    generator = np.random.default_rng(index)
    rung = int(generator.choice(3, p=[0.2, 0.7, 0.1]))
    answered = 1 if index % 50 == 7 else rung
    stages = {
        "decode": 1.0,
        "observe": 0.5,
        "decide": 0.1,
        "queue": float(generator.exponential(2)),
        "detect": float((6, 13, 78)[answered] * generator.lognormal(0, 0.1)),
    }
    shadowed = answered < 2 and index % 5 == 0
    given: dict[str, Any] = {
        "event_id": f"event-{index}",
        "time": time,
        "source": "stream",
        "session": f"robot-{index % 4}",
        "frame_id": index // 4,
        "client": "fleet",
        "policy_revision": "0123456789ab",
        "latency_weight": 0.1,
        "rung": LADDER[rung],
        "answered_by": LADDER[answered],
        "fallback": "late" if answered != rung else "",
        "probabilities": tuple(np.eye(3)[rung] * 0.7 + 0.1),
        "load_ms": (0.0, 0.0, 5.0),
        **{f"{stage}_ms": spent for stage, spent in stages.items()},
        "total_ms": sum(stages.values()) + 1.0,
        "deadline_ms": 1000.0,
        "width": 160,
        "height": 120,
        "image_bytes": 5000,
        "boxes": [[10, 60, 40, 80], [80, 50, 120, 90]],
        "scores": [0.9, 0.4],
        "labels": [2, 0],
        "shadow": shadowed,
        "dropped_before": 2 if index % 40 == 3 else 0,
        "tags": {"condition": CONDITIONS[index % 3]} if CONDITIONS[index % 3] else {},
    }
    if shadowed:
        given |= {"shadow_ms": 80.0, "agreement": float(generator.choice([1.0, 0.8, 0.5]))}
    if index % 25 == 0:
        frame = picture(index)
        given["image"] = cv2.imencode(".jpg", frame)[1].tobytes()
        given["observation"] = observation(frame, context_features(None))
    return PredictionRow(**(given | fields))


def failed_row(index: int, time: datetime) -> PredictionRow:
    """A frame without an answer."""
    return PredictionRow(
        event_id=f"failed-{index}",
        time=time,
        source="stream",
        session="robot-0",
        rung="nano",
        policy_revision="0123456789ab",
        error="no rung answered",
    )


@contextmanager
def open_log(folder: Path, **options: Any) -> Iterator[PredictionLog]:
    config = LogConfig(str(folder), **({"flush_seconds": 0.05, "observation_share": 0.0} | options))
    with PredictionLog(config) as log:
        yield log


def write_sample(folder: Path, rows: int = 600, start: datetime = NOON) -> list[PredictionRow]:
    """So many answers, ten a second, and three failures; some in parts of two hours."""
    made = [
        sample_row(index, start + timedelta(minutes=55, milliseconds=1000 * index))
        for index in range(rows)
    ]
    made += [failed_row(index, start + timedelta(minutes=56, seconds=index)) for index in range(3)]
    with open_log(folder) as log:
        for row in made:
            log.append(row)
        assert log.flush(60)
    return made
