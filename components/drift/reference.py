"""Stage reference: the frames a policy was trained and judged on, as its log would have them.

One row per frame of the data set, in the columns of the prediction log (``brightness``,
``edge_density``, ``blur``, ``noise``, ``answered_by``, ``scores``, ``labels``, ``agreement``, ...),
made by the very functions that serve: a difference between the two is then one of the frames, not
of the code. In place of the whole observation stands its ``embedding``; ``held_out`` marks the
frames the policy has not learned from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.dataset import load_dataset
from components.drift.embedding import embed
from components.drift.frames import COLUMNS, Frames, frames_of
from components.drift.window import read_rows
from components.parallel import Progress, no_progress, ordered_map
from components.policy.closed_loop import route
from components.policy.files import POLICY_FILE
from components.profiling.detections import RungDetections, load_profiles
from components.profiling.replay import PARTS, Replay, load_replay
from feature_transformer.frame_statistics import pixel_statistics, seen_statistics
from feature_transformer.makers import MAKERS
from feature_transformer.observation import SCHEMA_HASH
from foundation.errors import InvalidInput, SchemaMismatch
from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from inference_graph.prediction_log.agreement import agreement
from inference_graph.prediction_log.row import SCHEMA
from inference_graph.router import Policy

REFERENCE_FILE = "reference.parquet"
FACTS_KEY = b"gearshift.drift_reference"
_VERSION = 1
_FLOATS = pa.list_(pa.float32())

REFERENCE_SCHEMA = pa.schema(
    [
        # The frame's number: a data set knows an order, and no times.
        pa.field("time", pa.float64()) if name == "time" else SCHEMA.field(name)
        for name in COLUMNS
        if name not in ("client", "observation")
    ]
    + [pa.field("embedding", _FLOATS), pa.field("held_out", pa.bool_())]
)


@dataclass(frozen=True)
class ReferenceConfig:
    """How the reference is made.

    Attributes:
        workers: threads that decode and measure; 0 is one per core.
    """

    workers: int = 0


@dataclass(frozen=True)
class ReferenceSummary:
    """What a reference holds: frames, those held out, clips, and how the policy did on them."""

    frames: int
    held_out: int
    clips: int
    agreement: float
    large_share: float


@dataclass(frozen=True)
class Reference:
    """What windows are compared with.

    Attributes:
        frames: the frames.
        class_names: names of the detectors' classes, by label.
        name: how messages call it.
    """

    frames: Frames
    class_names: tuple[str, ...]
    name: str


def make_reference(
    dataset: Path,
    detections: Mapping[str, Path],
    replay: Path,
    policies: Path,
    out: Path,
    config: ReferenceConfig | None = None,
    progress: Progress = no_progress,
) -> ReferenceSummary:
    """Route every frame by the released policy and write what the log would hold of it.

    Args:
        dataset: canonical data set folder.
        detections: raw detections of each rung.
        replay: folder of the label stage.
        policies: folder of the refine stage.
        out: the Parquet file; appears whole or not at all.
        config: how to work.
        progress: called with frames done and in all.

    Raises:
        InvalidInput: an artifact is missing or of another data set.
        ImageError: a picture is missing or damaged.
        StorageError: the disk is full.
    """
    config = config or ReferenceConfig()
    data, replayed = load_dataset(dataset), load_replay(replay)
    policy = Policy(policies / POLICY_FILE, task=replayed.task)
    looks = [profile.select(replayed.image_ids) for profile in load_profiles(detections).values()]
    choice = route(replayed, lambda seen: policy.decide(seen)[0], policy.latency_weight)
    place = {image.id: index for index, image in enumerate(data.images)}
    try:
        order = [place[image_id] for image_id in replayed.image_ids.tolist()]
    except KeyError as error:
        raise InvalidInput(
            f"{replay}: was made of other images than {dataset}; run the label stage again"
        ) from error

    def measure(index: int) -> dict[str, float]:
        return pixel_statistics(data.read(index))

    rows = []
    for row, pixels in enumerate(ordered_map(measure, order, config.workers)):
        rows.append(_row(replayed, row, LADDER[choice[row]], looks) | pixels)
        progress(row + 1, len(order))
    first = looks[0]
    facts = {
        "version": _VERSION,
        "schema_hash": str(replayed.schema_hash),
        "class_names": list(first.class_names),
        "dataset_sha256": data.info.get("source_sha256"),
    }
    columns = {name: [row.get(name) for row in rows] for name in REFERENCE_SCHEMA.names}
    columns["embedding"] = list(embed(replayed.frames))
    columns["policy_revision"] = [policy.revision] * len(rows)
    columns["latency_weight"] = [policy.latency_weight] * len(rows)
    table = pa.table(columns, schema=REFERENCE_SCHEMA).replace_schema_metadata(
        {FACTS_KEY: json.dumps(facts).encode()}
    )
    with atomic_path(out) as partial:
        pq.write_table(table, partial, compression="zstd")
    agreements = [row["agreement"] for row in rows]
    return ReferenceSummary(
        len(rows),
        int(sum(row["held_out"] for row in rows)),
        len(replayed.clip_bounds),
        float(np.mean(agreements)),
        float(np.mean(choice == len(LADDER) - 1)),
    )


def load_reference(
    place: str, since: datetime | None = None, until: datetime | None = None, most_rows: int = 0
) -> Reference:
    """Read a reference: a policy's, or a window of a prediction log.

    Args:
        place: ``reference.parquet``, or a folder that holds one; else a log's folder or bucket.
        since: of a log, from this time on.
        until: of a log, before this time.
        most_rows: of a log, answers that are read at most.

    Raises:
        InvalidInput: neither, or broken.
        SchemaMismatch: made with another version of the observation.
        StorageError: the log cannot be read.
    """
    if not place:
        raise InvalidInput(
            "no reference: give --reference runs/demo (a pipeline run leaves reference.parquet "
            "beside its policy), or a prediction log with --reference-since and --reference-until"
        )
    path = Path(place)
    if path.is_dir() and (path / REFERENCE_FILE).is_file():
        path = path / REFERENCE_FILE
    if path.is_file():
        return _read(path)
    if "://" not in place and not (path / "predictions").is_dir():
        raise InvalidInput(
            f"no reference at {place}; give {REFERENCE_FILE} of a pipeline run, its folder, or a "
            "prediction log"
        )
    frames = frames_of(read_rows(place, since, until, most_rows).tables)
    return Reference(frames, (), place)


def _read(path: Path) -> Reference:
    try:
        table = pq.read_table(path)
        facts: dict[str, Any] = json.loads((table.schema.metadata or {})[FACTS_KEY])
        table = table.select(REFERENCE_SCHEMA.names).cast(REFERENCE_SCHEMA)
        names = tuple(str(name) for name in facts["class_names"])
        made_with, version = str(facts["schema_hash"]), facts["version"]
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{path} is no drift reference ({type(error).__name__}); run the training pipeline "
            "again, or give the reference.parquet that one left"
        ) from error
    known = {maker.schema_hash for maker in MAKERS.values()}
    if made_with not in known or version != _VERSION:
        raise SchemaMismatch(
            f"{path} was made with observation schema {made_with[:12]}, version {version}; this "
            f"one has {SCHEMA_HASH[:12]}, version {_VERSION}; run the training pipeline again"
        )
    return Reference(frames_of([table]), names, str(path))


def _row(replayed: Replay, row: int, rung: str, looks: list[RungDetections]) -> dict[str, Any]:
    found, large = looks[LADDER.index(rung)].of(row), looks[-1].of(row)
    seen = seen_statistics(replayed.frames[row])
    return {
        "time": float(row),
        "session": f"clip {replayed.clips[row]}",
        "answered_by": rung,
        "scores": found.scores,
        "labels": found.labels,
        "agreement": agreement(found, large),
        "held_out": PARTS[replayed.parts[row]] == "test",
        **seen,
    }
