"""The stages from label to evaluate on small scenes, by rungs whose strengths are known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.dataset import Dataset, load_dataset
from components.data.observe import ObserveConfig, observe
from components.data.split import SplitConfig, split
from components.profiling.detections import (
    DETECTIONS_FILE,
    DETECTIONS_SCHEMA,
    FACTS_KEY,
    IMAGES_FILE,
    IMAGES_SCHEMA,
)
from components.scenes.sprites import CATEGORY_IDS, CATEGORY_NAMES
from components.scenes.writer import ScenesConfig, write_scenes
from inference_graph.contract import LADDER

SCENES = ScenesConfig(
    clips=12, clip_frames=6, condition="mixed", width=160, height=128, seed=8, workers=1
)
LATENCY_MS = (4.0, 12.0, 50.0)
OBSERVE_MS = 0.5
PRICE = 0.36
"""USD per hour: a million frames of a millisecond each cost 0.1 USD."""

_MISSED_PER_OBJECT = (0.07, 0.04, 0.0)
"""How much more of a frame each rung misses for every object in it."""
_JITTER = (0.08, 0.05, 0.02)


@dataclass(frozen=True)
class Artifacts:
    """What stands before the label stage, and what comes after it."""

    dataset: Path
    detections: dict[str, Path]
    timings: Path
    observations: Path
    split: Path
    replay: Path
    clones: Path
    policies: Path
    report: Path


def prepare(folder: Path) -> Artifacts:
    """Scenes, split, observations, profiles and timings; the stages after them come later."""
    found = Artifacts(
        folder / "dataset",
        {rung: folder / rung for rung in LADDER},
        folder / "timings.json",
        folder / "observations.npz",
        folder / "split.json",
        folder / "replay",
        folder / "clones",
        folder / "policies",
        folder / "report",
    )
    write_scenes(SCENES, found.dataset)
    # What ingest adds, which the chain does without.
    annotations = found.dataset / "annotations.json"
    payload = json.loads(annotations.read_text())
    payload["info"]["source_sha256"] = f"{7:064x}"
    annotations.write_text(json.dumps(payload))
    split(found.dataset, found.split, SplitConfig(train=0.5, validation=0.2, test=0.3))
    observe(found.dataset, found.observations, ObserveConfig(workers=1))
    data = load_dataset(found.dataset)
    for rung, path in found.detections.items():
        write_profile(path, data, rung)
    write_timings(found.timings, data)
    return found


def write_profile(path: Path, data: Dataset, rung: str, seed: int = 0) -> None:
    """What a rung sees: the truth with some objects missed, moved a little, at a guessed score."""
    place = LADDER.index(rung)
    rng = np.random.default_rng((seed, place))
    rows: list[list[Any]] = []
    counts = []
    for index in range(len(data)):
        there = data.annotations_of(index)
        objects = there.stop - there.start
        seen = []
        for row in range(there.start, there.stop):
            if rng.random() < 0.03 + _MISSED_PER_OBJECT[place] * objects:
                continue
            x, y, width, height = data.boxes[row]
            moved = rng.normal(0, _JITTER[place], 4) * (width, height, width, height)
            box = np.array([x, y, x + width, y + height]) + moved
            seen.append((float(rng.uniform(0.3, 0.95)), box, int(data.category_ids[row])))
        if rng.random() < 0.3:  # a false alarm
            box = np.array([10.0, 10.0, 40.0, 60.0])
            seen.append((float(rng.uniform(0.05, 0.4)), box, 1))
        seen.sort(key=lambda one: -one[0])
        counts.append(len(seen))
        rows += [
            [data.images[index].id, *box.tolist(), score, category, CATEGORY_IDS.index(category)]
            for score, box, category in seen
        ]
    facts = {
        "rung": rung,
        "class_names": list(CATEGORY_NAMES),
        "category_ids": list(CATEGORY_IDS),
        "sha256": "0" * 64,
    }
    notes = {FACTS_KEY: json.dumps(facts).encode()}
    path.mkdir(parents=True)
    schema = DETECTIONS_SCHEMA.with_metadata(notes)
    columns = [
        pa.array([row[place] for row in rows], field.type) for place, field in enumerate(schema)
    ]
    pq.write_table(pa.table(columns, schema=schema), path / DETECTIONS_FILE)
    times = np.ones(len(data), np.float32)
    images = [
        pa.array(data.image_ids),
        pa.array(np.array(counts, np.int32)),
        *[pa.array(times)] * 3,
    ]
    schema = IMAGES_SCHEMA.with_metadata(notes)
    pq.write_table(pa.table(images, schema=schema), path / IMAGES_FILE)


def write_timings(path: Path, data: Dataset) -> None:
    """Every third frame is a tenth slower than the one before, on every rung."""
    ids = data.image_ids.tolist()
    runs = [
        [[OBSERVE_MS, *(ms * (1 + 0.1 * (place % 3)) for ms in LATENCY_MS)]]
        for place in range(len(ids))
    ]
    result = {
        "rungs": list(LADDER),
        "sample_ids": ids,
        "runs_ms": runs,
        "dataset_ids": ids,
        "price_per_hour_usd": PRICE,
        "facts": {"settings": {"threads": 1}, "machine": {"cpu": "made by hand"}},
    }
    path.write_text(json.dumps(result))
