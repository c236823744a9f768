"""Logs and references drawn street by street, so that what has to be found is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.drift.embedding import embed
from components.drift.reference import FACTS_KEY, REFERENCE_FILE, REFERENCE_SCHEMA
from feature_transformer.observation import OBSERVATION_SIZE, SCHEMA_HASH
from inference_graph.contract import LADDER
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
CLASSES = ("person", "car", "bus")


@dataclass(frozen=True)
class Streets:
    """What is drawn for each street; its frames are nearly the same.

    Attributes:
        count: streets.
        frames: of each.
        grey: mean grey level of a street, mean and deviation over streets.
        objects: mean number a frame.
        mix: shares of the classes.
        rungs: shares of the rungs.
        agreement: mean of the shadowed frames'.
        shadow: share of the frames with a shadow.
        seed: of all.
    """

    count: int = 60
    frames: int = 5
    grey: tuple[float, float] = (0.5, 0.08)
    objects: float = 5.0
    mix: tuple[float, ...] = (0.5, 0.3, 0.2)
    rungs: tuple[float, ...] = (0.3, 0.6, 0.1)
    agreement: float = 0.9
    shadow: float = 1.0
    seed: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per frame, in the log's words."""
        rng = np.random.default_rng(self.seed)
        rows = []
        for street in range(self.count):
            grey = float(np.clip(rng.normal(*self.grey), 0.02, 0.98))
            edges, blur, noise = rng.normal([0.1, 400.0, 6.0], [0.02, 60.0, 1.5])
            rung = LADDER[rng.choice(3, p=self.rungs)]
            crowd = int(rng.poisson(self.objects))
            agreed = float(np.clip(rng.normal(self.agreement, 0.05), 0, 1))
            for frame in range(self.frames):
                seen = np.full(OBSERVATION_SIZE, grey, np.float32)
                seen[:1024] += rng.normal(0, 0.02, 1024).astype(np.float32)
                seen[1024:1028] = edges
                shadow = rung != LADDER[-1] and rng.random() < self.shadow
                rows.append(
                    {
                        "session": f"street-{self.seed}-{street:03d}",
                        "frame_id": frame,
                        "answered_by": rung,
                        "brightness": float(seen[:1024].mean()),
                        "edge_density": float(edges),
                        "blur": float(blur),
                        "noise": float(noise),
                        "scores": np.sort(rng.uniform(0.3, 0.95, crowd))[::-1],
                        "labels": rng.choice(len(self.mix), crowd, p=self.mix),
                        "agreement": agreed if shadow else None,
                        "observation": seen,
                    }
                )
        return rows


def write_log(folder: Path, streets: Streets, start: datetime = NOON, **fields: Any) -> Path:
    """A prediction log by its own writer, ten frames a second."""
    config = LogConfig(url=str(folder), observation_share=1.0)
    with PredictionLog(config) as log:
        for number, row in enumerate(streets.rows()):
            count = len(row["scores"])
            agreement = row.pop("agreement")
            log.append(
                PredictionRow(
                    event_id=f"{streets.seed}-{start:%d%H%M}-{number}",
                    time=start + timedelta(seconds=0.1 * number),
                    source="stream",
                    rung=row["answered_by"],
                    boxes=np.tile(np.float32([0, 0, 9, 9]), count),
                    shadow=agreement is not None,
                    agreement=np.nan if agreement is None else agreement,
                    **{"policy_revision": "0123456789ab", "latency_weight": 0.1} | fields,
                    **row,
                )
            )
            if number % 1000 == 999:
                log.flush()
    return folder


def write_reference(folder: Path, streets: Streets, **facts: Any) -> Path:
    """A reference as the training pipeline leaves it."""
    rows = streets.rows()
    for number, row in enumerate(rows):
        row["embedding"] = embed(row["observation"][None])[0]
        row["time"] = float(number)
        row["held_out"] = number % 2 == 0
        row["policy_revision"], row["latency_weight"] = "0123456789ab", 0.1
        if row["answered_by"] == LADDER[-1]:
            row["agreement"] = 1.0
    columns = {name: [row.get(name) for row in rows] for name in REFERENCE_SCHEMA.names}
    reported = {"version": 1, "schema_hash": SCHEMA_HASH, "class_names": CLASSES} | facts
    table = pa.table(columns, schema=REFERENCE_SCHEMA)
    folder.mkdir(parents=True, exist_ok=True)
    notes = {FACTS_KEY: json.dumps(reported).encode()}
    pq.write_table(table.replace_schema_metadata(notes), folder / REFERENCE_FILE)
    return folder / REFERENCE_FILE
