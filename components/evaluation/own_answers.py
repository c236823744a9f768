"""A yardstick that no router can be: it decides with what every rung saw of this very frame.

How much of the gap between hull and oracle a policy closes says little where even this closes
little; so policies are also measured by their share of what it reaches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from components.evaluation.alternatives import Bench, Routing

_TREES = 200
_LEAF = 20
_FEATURES = 0.5


def own_answers(
    learn: Bench, judge: Bench, latency_weights: Sequence[float], seed: int = 0
) -> list[Routing]:
    """Routings by trees that predict each rung's quality on a frame from all rungs' looks at it.

    Nothing is paid for these looks: latency is that of the chosen rung alone.

    Args:
        learn: frames to learn from.
        judge: frames to route.
        latency_weights: operating points.
        seed: entropy of the trees.
    """
    trees = ExtraTreesRegressor(
        _TREES, min_samples_leaf=_LEAF, max_features=_FEATURES, random_state=seed
    )
    trees.fit(_looks(learn), learn.replay.quality)
    quality = trees.predict(_looks(judge))
    price = judge.replay.latency_ratio
    return [
        judge.rung(f"lambda {weight:.4f}", (quality - weight * price).argmax(axis=1))
        for weight in latency_weights
    ]


def _looks(bench: Bench) -> NDArray[np.float32]:
    return bench.replay.looks.reshape(len(bench.replay), -1)
