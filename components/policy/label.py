"""Labels: what each rung's answer to each frame is worth, and the best rung under a reward.

Turns detections, timings and observations into the replay that cloning, PPO and evaluation read,
and into ``profile.parquet``, one row per image and rung, for people and dashboards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from components.data.dataset import SCENE_TYPES, Dataset, load_dataset
from components.data.observe import load_observations
from components.data.split import Split, load_split
from components.profiling.detections import RungDetections, load_profiles
from components.profiling.replay import PARTS, Replay, save_replay
from components.profiling.timing import load_timings
from components.tasks import task_named
from feature_transformer.makers import maker_of
from feature_transformer.observation import (
    DEFAULT_LATENCY_WEIGHT,
    FRAME_FEATURES,
    LOOK_NAMES,
    Look,
    look_features,
)
from foundation.configuration import configuration
from foundation.errors import InvalidInput
from foundation.storage import atomic_path
from inference_graph.contract import LADDER

PROFILE_FILE = "profile.parquet"


@configuration
class LabelConfig:
    """The reward that labels are optimal under.

    Attributes:
        quality_weight: weight of a frame's contribution to mAP.
        latency_weight: weight of the latency over the heaviest rung's: the operating point of
            the labels in the profile and of the released policy.
        cost_weight: weight of the cost over the heaviest rung's.
    """

    quality_weight: Annotated[float, Field(gt=0)] = 1.0
    latency_weight: Annotated[float, Field(gt=0)] = DEFAULT_LATENCY_WEIGHT
    cost_weight: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True)
class LabelSummary:
    """A summary of the labels: frames, and the share of each rung among the optimal choices."""

    frames: int
    optimal_shares: Mapping[str, float]
    mean_quality: Mapping[str, float]
    mean_latency_ms: Mapping[str, float]


def label(
    dataset: Path,
    detections: Mapping[str, Path],
    timings: Path,
    observations: Path,
    split: Path,
    out: Path,
    config: LabelConfig,
) -> LabelSummary:
    """Make the replay and the profile.

    Args:
        dataset: canonical data set folder.
        detections: raw detections of each rung (`profile`).
        timings: latencies (`timing`).
        observations: frame features (`observe`).
        split: parts of the data set (`split`).
        out: folder to write.
        config: the reward.

    Returns:
        Shares, qualities and latencies of the rungs.

    Raises:
        InvalidInput: an artifact is missing, broken, or of another data set.
    """
    if tuple(detections) != LADDER:
        raise InvalidInput(
            f"detections of {', '.join(detections) or 'no rung'} were given; "
            f"profile each of {', '.join(LADDER)}"
        )
    data = load_dataset(dataset)
    found = list(load_profiles(detections).values())
    if not np.array_equal(found[0].image_ids, data.image_ids):
        raise InvalidInput(
            f"{detections[LADDER[0]]}: was made on another data set than {dataset}; "
            "run profile again"
        )
    features = load_observations(observations)
    times = load_timings(timings)
    order, clips, parts = _clip_order(data, load_split(split))
    quality = np.zeros((len(data), len(LADDER)))
    for part in (PARTS[:2], PARTS[2:]):
        # Frames that are learned from and frames that are judged are ensembles of their own, so
        # that no label of one knows anything of the other.
        members = np.sort(order[np.isin(parts, [PARTS.index(name) for name in part])])
        if len(members):
            ids = data.image_ids[members].tolist()
            chosen = [rows.select(ids) for rows in found]
            scored = task_named(data.task).score(data.subset(ids), chosen, found[0].classes)
            quality[members] = scored.contributions()
    milliseconds = times.latencies(data.image_ids)
    replay = Replay(
        image_ids=data.image_ids[order],
        clips=clips,
        parts=parts,
        scene_types=np.array([SCENE_TYPES.index(data.images[i].scene_type) for i in order]),
        frames=_frames(features.image_ids, features.features, data.image_ids[order]),
        looks=look_blocks(data, found, order),
        quality=quality[order].astype(np.float32),
        latency_ms=milliseconds[order].astype(np.float32),
        cost_usd=(milliseconds[order] * times.usd_per_million(1.0)).astype(np.float32),
        observe_ms=np.array([times.observe_ms]),
        objective=np.array([config.quality_weight, config.latency_weight, config.cost_weight]),
        schema_hash=np.array(maker_of(data.task).schema_hash),
    )
    best = replay.optimal(config.latency_weight)
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        save_replay(replay, folder)
        _profile(data, replay, best).to_parquet(folder / PROFILE_FILE, index=False)
    return LabelSummary(
        len(replay),
        {rung: float(np.mean(best == index)) for index, rung in enumerate(LADDER)},
        _by_rung(replay.quality),
        _by_rung(replay.latency_ms),
    )


def _by_rung(values: NDArray[np.float32]) -> dict[str, float]:
    return {rung: float(values[:, index].mean()) for index, rung in enumerate(LADDER)}


def _clip_order(
    data: Dataset, split: Split
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Positions in clip order, the clip's number and the part of each; unsplit images drop out."""
    part_of = {
        image_id: number
        for number, part in enumerate(PARTS)
        for image_id in split.part(part).tolist()
    }
    order: list[int] = []
    clips: list[int] = []
    for number, clip in enumerate(data.clips):
        members = [int(i) for i in clip.indexes if int(data.image_ids[i]) in part_of]
        order += members
        clips += [number] * len(members)
    parts = [part_of[int(data.image_ids[i])] for i in order]
    return np.array(order, np.int64), np.array(clips, np.int64), np.array(parts, np.int64)


def _frames(
    image_ids: NDArray[np.int64], features: NDArray[np.float32], wanted: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Rows of the features for the wanted ids, float32 [n, 1028]."""
    position = {int(image_id): row for row, image_id in enumerate(image_ids)}
    try:
        rows = [position[int(image_id)] for image_id in wanted]
    except KeyError as error:
        raise InvalidInput(
            f"image {error.args[0]} has no observation; run observe on this data set"
        ) from None
    return features[rows].reshape(len(wanted), FRAME_FEATURES)


def look_blocks(
    data: Dataset, found: Sequence[RungDetections], order: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Look block each rung's answer leaves behind, float32 [n, R, 16]."""
    looks = np.zeros((len(order), len(found), len(LOOK_NAMES)), np.float32)
    for row, index in enumerate(order):
        image = data.images[index]
        for rung, rows in enumerate(found):
            mine = slice(int(rows.offsets[index]), int(rows.offsets[index + 1]))
            looks[row, rung] = look_features(
                Look(
                    rung,
                    rows.boxes[mine],
                    rows.scores[mine],
                    rows.labels[mine],
                    image.width,
                    image.height,
                )
            )
    return looks


def _profile(data: Dataset, replay: Replay, best: NDArray[np.int64]) -> pd.DataFrame:
    """One row per image and rung."""
    count = len(replay)
    index = data.index_of(replay.image_ids.tolist())
    images = [data.images[i] for i in index]
    reward = replay.reward(replay.latency_weight)

    def each(values: Sequence[object]) -> NDArray[np.object_]:
        return np.repeat(np.array(values, dtype=object), len(LADDER))

    return pd.DataFrame(
        {
            "image_id": np.repeat(replay.image_ids, len(LADDER)),
            "file_name": each([image.file_name for image in images]),
            "clip": each([image.clip for image in images]),
            "frame_index": np.repeat([image.frame_index for image in images], len(LADDER)),
            "part": each([PARTS[part] for part in replay.parts]),
            "condition": each([image.condition for image in images]),
            "scene_type": each([image.scene_type for image in images]),
            "rung": np.tile(np.array(LADDER, dtype=object), count),
            "quality": replay.quality.reshape(-1),
            "latency_ms": replay.latency_ms.reshape(-1),
            "cost_usd_per_million": replay.cost_usd.reshape(-1),
            "reward": reward.reshape(-1),
            "optimal": (best[:, None] == np.arange(len(LADDER))).reshape(-1),
        }
    )
