"""Small replays whose right answers are known, and data sets with detections made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.data.classes import Classes
from components.data.dataset import Dataset, dataset_from_coco
from components.profiling.detections import RungDetections
from components.profiling.replay import Replay
from feature_transformer.observation import FRAME_FEATURES, LOOK_NAMES
from inference_graph.contract import LADDER

CATEGORIES = (1, 2, 5)
CLASSES = Classes(("a", "b", "c"), CATEGORIES)
LATENCY_MS = (5.0, 20.0, 50.0)
COUNT = LOOK_NAMES.index("count_25")
CALM = (0.5, 0.505, 0.51)
CROWDED = (0.1, 0.4, 0.9)
"""Quality of each rung on calm and on crowded frames: calm ones need nano, crowded ones large."""


def replay_of(
    clips: Sequence[int],
    quality: Any = (0.1, 0.2, 0.3),
    latency_ms: Any = (10.0, 20.0, 50.0),
    *,
    parts: Sequence[int] | None = None,
    objective: Sequence[float] = (1.0, 0.1, 0.0),
    observe_ms: float = 0.5,
) -> Replay:
    """Clips of the given lengths.

    The first number of frame i is i, and its look by rung r starts with 100 i + r + 1, so that an
    observation tells where it comes from.
    """
    count = sum(clips)
    frames = np.zeros((count, FRAME_FEATURES), np.float32)
    frames[:, 0] = np.arange(count)
    looks = np.zeros((count, len(LADDER), len(LOOK_NAMES)), np.float32)
    looks[:, :, 0] = 100 * np.arange(count)[:, None] + np.arange(len(LADDER)) + 1
    shape = (count, len(LADDER))
    milliseconds = np.broadcast_to(np.asarray(latency_ms, np.float32), shape).copy()
    return Replay(
        image_ids=np.arange(count) + 1,
        clips=np.repeat(np.arange(len(clips)), clips),
        parts=np.repeat(parts if parts is not None else [0] * len(clips), clips),
        scene_types=np.zeros(count, np.int64),
        frames=frames,
        looks=looks,
        quality=np.broadcast_to(np.asarray(quality, np.float32), shape).copy(),
        latency_ms=milliseconds,
        cost_usd=(milliseconds / 3.6 * 0.1).astype(np.float32),
        observe_ms=np.array([observe_ms]),
        objective=np.array(objective, np.float64),
    )


def learnable_replay(clips: int = 40, frames: int = 8, seed: int = 0) -> Replay:
    """Half of the clips are crowded; the look back shows it, whichever rung looked, the frame not.

    Clips 0..: of five, three are to learn from, one to validate, one to test.
    """
    rng = np.random.default_rng(seed)
    count = clips * frames
    crowded = np.repeat(np.arange(clips) // 5 % 2 == 1, frames)
    looks = np.zeros((count, len(LADDER), len(LOOK_NAMES)), np.float32)
    looks[:, :, 0] = 1.0
    for rung in range(len(LADDER)):
        looks[:, rung, 1 + rung] = 1.0
    looks[:, :, COUNT] = 0.2 + 0.6 * crowded[:, None] + rng.normal(0, 0.05, (count, len(LADDER)))
    quality = np.where(crowded[:, None], CROWDED, CALM) + rng.normal(0, 0.005, (count, len(LADDER)))
    latency = np.tile(np.array(LATENCY_MS, np.float32), (count, 1))
    part = np.array([0, 0, 0, 1, 2])[np.arange(clips) % 5]
    return Replay(
        image_ids=np.arange(count) + 1,
        clips=np.repeat(np.arange(clips), frames),
        parts=np.repeat(part, frames),
        scene_types=np.where(crowded, 2, 0),
        frames=rng.random((count, FRAME_FEATURES), np.float32),
        looks=looks,
        quality=quality.astype(np.float32),
        latency_ms=latency,
        cost_usd=latency * np.float32(0.025),
        observe_ms=np.array([0.5]),
        objective=np.array([1.0, 0.1, 0.0]),
    )


@dataclass(frozen=True)
class Learned:
    """A replay whose answer is known, its clones and what PPO made of them.

    Attributes:
        replay: folder of `learnable_replay`.
        clones: folder of the clone stage, two seeds.
        policies: folder of the refine stage.
        cloned: summary of the clone stage.
        refined: summary of the refine stage.
        config: of the refine stage.
    """

    replay: Path
    clones: Path
    policies: Path
    cloned: Any
    refined: Any
    config: Any


Row = tuple[int, Sequence[float], float, int]
"""Frame, x y w h, score, category."""


def data_of(
    frames: int,
    objects: Sequence[tuple[int, Sequence[float], int, int]],
    clips: Sequence[str | None] | None = None,
) -> Dataset:
    """Images of 640x480 with ids from 1; ``objects``: frame, x y w h, category, crowd."""
    images = [
        {
            "id": 1 + index,
            "file_name": f"{index}.png",
            "width": 640,
            "height": 480,
            "attributes": {"clip": clips[index] if clips else None, "frame_index": index},
        }
        for index in range(frames)
    ]
    annotations = [
        {
            "id": 1 + number,
            "image_id": 1 + frame,
            "category_id": category,
            "bbox": list(box),
            "area": float(box[2] * box[3]),
            "iscrowd": crowd,
        }
        for number, (frame, box, category, crowd) in enumerate(objects)
    ]
    categories = [
        {"id": number, "name": name} for number, name in zip(CATEGORIES, CLASSES.names, strict=True)
    ]
    payload = {"images": images, "annotations": annotations, "categories": categories}
    return dataset_from_coco(Path("."), payload, Path("annotations.json"))


def detections_of(frames: int, rows: Sequence[Row], rung: str = "nano") -> RungDetections:
    """Detections of `data_of`'s images, sorted as a profile has them."""
    rows = sorted(rows, key=lambda row: (row[0], -row[2]))
    boxes = np.array([row[1] for row in rows], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    counts = np.bincount([row[0] for row in rows], minlength=frames)
    categories = np.array([row[3] for row in rows], np.int64)
    return RungDetections(
        rung=rung,
        image_ids=np.arange(frames) + 1,
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        boxes=boxes.astype(np.float32),
        scores=np.array([row[2] for row in rows], np.float32),
        labels=np.searchsorted(CATEGORIES, categories).astype(np.int32),
        category_ids=categories,
        milliseconds=np.ones((frames, 3), np.float32),
        facts={"rung": rung, "class_names": ["a", "b", "c"], "category_ids": list(CATEGORIES)},
    )
