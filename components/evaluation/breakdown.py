"""A routing taken apart: by scene type, by condition, against the optimal labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import SCENE_TYPES, Dataset
from components.evaluation.alternatives import Bench, Routing
from components.evaluation.report_schema import Gear
from components.profiling.replay import Replay
from inference_graph.contract import LADDER


def annotated(replay: Replay, data: Dataset) -> Replay:
    """Only the frames that people annotated, if any: pseudo labels favour who drew them."""
    rows = data.index_of(replay.image_ids.tolist())
    drawn = np.array([data.images[row].pseudo for row in rows])
    return replay if drawn.all() else replay.take(~drawn)


def by_scene_type(replay: Replay) -> dict[str, NDArray[np.bool_]]:
    """Members of each scene type, bool ``[N]``."""
    return {name: replay.scene_types == index for index, name in enumerate(SCENE_TYPES)}


def by_condition(replay: Replay, data: Dataset) -> dict[str, NDArray[np.bool_]]:
    """Members of each condition, bool ``[N]``."""
    rows = data.index_of(replay.image_ids.tolist())
    conditions = np.array([data.images[row].condition for row in rows])
    return {str(name): conditions == name for name in np.unique(conditions)}


def of_groups(
    bench: Bench, chosen: Routing, groups: Mapping[str, NDArray[np.bool_]]
) -> dict[str, dict[str, Any]]:
    """Routing shares and accuracy retained within groups of frames."""
    result: dict[str, dict[str, Any]] = {}
    large_ms = float(bench.replay.latency_ms[:, -1].mean())
    large = np.full(len(chosen.choice), len(LADDER) - 1)
    for name, members in groups.items():
        if not members.any():
            continue
        weights = members.astype(np.float64)
        top = bench.matched.accuracy(large, weights)
        result[name] = {
            "frames": int(members.sum()),
            "shares": {
                rung: float(np.mean(chosen.choice[members] == index))
                for index, rung in enumerate(LADDER)
            },
            "retained": bench.accuracy(chosen, weights) / top if top > 0 else float("nan"),
            "latency_ratio": float(chosen.latency_ms[members].mean()) / large_ms,
        }
    return result


def gears(replay: Replay, chosen: Routing, latency_weight: float) -> dict[str, Gear]:
    """Share of every rung, and what its use is worth against the best other rung in its place."""
    reward = replay.reward(latency_weight)
    found = {}
    for index, rung in enumerate(LADDER):
        members = chosen.choice == index
        gain = None
        if members.any():
            means = reward[members].mean(axis=0)
            gain = float(means[index] - np.delete(means, index).max())
        found[rung] = Gear(share=float(members.mean()), gain=gain)
    return found


def against_labels(replay: Replay, chosen: Routing, latency_weight: float) -> dict[str, Any]:
    """Regret, accuracy and confusion against the optimal labels of the operating point."""
    reward = replay.reward(latency_weight)
    best = reward.argmax(axis=1)
    rows = np.arange(len(replay))
    confusion = np.zeros((len(LADDER), len(LADDER)), np.int64)
    np.add.at(confusion, (best, chosen.choice), 1)
    present = confusion.sum(axis=1) > 0
    recall = np.diag(confusion)[present] / confusion.sum(axis=1)[present]
    return {
        "confusion": confusion.tolist(),
        "balanced_accuracy": float(recall.mean()),
        "majority_balanced_accuracy": float(1.0 / present.sum()),
        "mean_regret": float((reward.max(axis=1) - reward[rows, chosen.choice]).mean()),
        "mean_regret_of_rung": {
            rung: float((reward.max(axis=1) - reward[:, index]).mean())
            for index, rung in enumerate(LADDER)
        },
    }
