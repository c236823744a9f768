"""The reward calculator: the optimal labels of a run's profile at weights that the reader moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.dataset import SCENE_TYPES
from components.policy.reward import Rewards
from components.profiling.replay import PARTS, load_objective
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER

_COLUMNS = (
    "rung",
    "part",
    "scene_type",
    "quality",
    "latency_ms",
    "cost_usd_per_million",
    "optimal",
)


@dataclass(frozen=True)
class Weights:
    """What the reward weighs: the frame's quality, its latency and its cost."""

    quality: float
    latency: float
    cost: float

    def __post_init__(self) -> None:
        """Raise InvalidInput for weights that no reward can have."""
        if not all(0 <= value < np.inf for value in (self.quality, self.latency, self.cost)):
            raise InvalidInput("weights of the reward are finite numbers of at least 0")


@dataclass(frozen=True, eq=False)
class Profile:
    """What a run knows of every frame and rung; N frames in the profile's order.

    Attributes:
        rewards: quality, latency, cost, and the weights of the run's own labels.
        parts: int64 [N], index into ``PARTS``.
        scene_types: int64 [N], index into ``SCENE_TYPES``.
        recorded: int64 [N], the labels that the run recorded.
    """

    rewards: Rewards
    parts: NDArray[np.int64]
    scene_types: NDArray[np.int64]
    recorded: NDArray[np.int64]

    @property
    def own(self) -> Weights:
        """The weights of the run's own labels."""
        return Weights(*self.rewards.objective.tolist())

    @cached_property
    def cost_is_latency(self) -> bool:
        """Whether cost is latency times one price, so that both weights pull alike."""
        price = self.rewards.cost_usd / np.maximum(self.rewards.latency_ms, 1e-9)
        return bool(np.ptp(price) <= 1e-3 * price.mean())

    def optimal(self, weights: Weights) -> NDArray[np.int64]:
        """The optimal label of every frame, int64 [N], by the label stage's own formula."""
        objective = np.array([weights.quality, weights.latency, weights.cost])
        return replace(self.rewards, objective=objective).optimal(weights.latency)

    def members(self, part: str) -> NDArray[np.bool_]:
        """Frames of a part, bool [N]; all frames for a part that is none."""
        if part not in PARTS:
            return np.ones(len(self.parts), np.bool_)
        return self.parts == PARTS.index(part)


@dataclass(frozen=True)
class RewardOutcome:
    """What becomes of some frames when each goes to its label's rung.

    Attributes:
        frames: how many.
        shares: of the frames, by rung.
        quality: mean contribution to the set's accuracy.
        quality_ratio: the same over large's; None where large contributes nothing.
        latency_ms: mean; the router's own time is not in it.
        latency_ratio: the same over large's on these frames.
        usd_per_million: mean cost.
        savings: share of large's cost that is not spent.
    """

    frames: int
    shares: Mapping[str, float]
    quality: float
    quality_ratio: float | None
    latency_ms: float
    latency_ratio: float
    usd_per_million: float
    savings: float


@dataclass(frozen=True)
class Calculation:
    """The answer to some weights.

    Attributes:
        overall: all frames looked at.
        scene_types: the same by scene type; those without a frame are left out.
        changed: share of the frames whose label is another one than the run recorded.
    """

    overall: RewardOutcome
    scene_types: Mapping[str, RewardOutcome]
    changed: float


def load_profile(profile: Path) -> Profile:
    """Read the profile of a run, and beside it what its own labels weighed.

    Args:
        profile: ``profile.parquet``, in the folder of the label stage.

    Raises:
        InvalidInput: the profile or the replay beside it is missing or broken.
    """
    try:
        table = pq.ParquetFile(profile).read(columns=list(_COLUMNS))
        rungs = _places(table, "rung", LADDER)
        if not len(rungs) or (rungs != np.arange(len(LADDER))).any():
            raise ValueError("not one row per frame and rung, in the ladder's order")
        return Profile(
            Rewards(
                quality=_by_rung(table, "quality"),
                latency_ms=_by_rung(table, "latency_ms"),
                cost_usd=_by_rung(table, "cost_usd_per_million"),
                objective=load_objective(profile.parent),
            ),
            parts=_places(table, "part", PARTS)[:, 0],
            scene_types=_places(table, "scene_type", SCENE_TYPES)[:, 0],
            recorded=table["optimal"].to_numpy().reshape(-1, len(LADDER)).argmax(axis=1),
        )
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InvalidInput(
            f"{profile} is no profile ({str(error).splitlines()[0]}); run the pipeline again"
        ) from error


def calculate(profile: Profile, weights: Weights, part: str = "") -> Calculation:
    """Label the frames of a part optimally, and return what that comes to.

    Args:
        profile: the frames.
        weights: of the reward; latency and cost count relative to large's means over all parts,
            as they do when the run makes its labels.
        part: train, validation or test; all of them for anything else.

    Raises:
        InvalidInput: the part has no frame.
    """
    members = profile.members(part)
    if not members.any():
        raise InvalidInput(f"the {part} part of this run has no frame; choose another part")
    labels = profile.optimal(weights)
    by_type = {
        name: members & (profile.scene_types == index) for index, name in enumerate(SCENE_TYPES)
    }
    return Calculation(
        overall=_outcome(profile.rewards, labels, members),
        scene_types={
            name: _outcome(profile.rewards, labels, some)
            for name, some in by_type.items()
            if some.any()
        },
        changed=float(np.mean(labels[members] != profile.recorded[members])),
    )


def sweep(
    profile: Profile, weights: Weights, latency_weights: Sequence[float], part: str = ""
) -> NDArray[np.float64]:
    """Share of each rung among the optimal labels at several latency weights, float64 [k, R]."""
    members = profile.members(part)
    found = [
        profile.optimal(replace(weights, latency=float(weight)))[members]
        for weight in latency_weights
    ]
    counts = [np.bincount(labels, minlength=len(LADDER)) for labels in found]
    return np.array(counts, np.float64) / max(1, int(members.sum()))


def _outcome(
    rewards: Rewards, labels: NDArray[np.int64], members: NDArray[np.bool_]
) -> RewardOutcome:
    rows = np.flatnonzero(members)
    chosen = labels[rows]

    def means(values: NDArray[np.float32]) -> tuple[float, float]:
        """Of the chosen rungs, and of large."""
        return (
            float(values[rows, chosen].mean(dtype=np.float64)),
            float(values[rows, -1].mean(dtype=np.float64)),
        )

    quality, large_quality = means(rewards.quality)
    latency, large_latency = means(rewards.latency_ms)
    cost, large_cost = means(rewards.cost_usd)
    return RewardOutcome(
        frames=len(rows),
        shares={rung: float(np.mean(chosen == index)) for index, rung in enumerate(LADDER)},
        quality=quality,
        quality_ratio=quality / large_quality if large_quality > 0 else None,
        latency_ms=latency,
        latency_ratio=latency / large_latency,
        usd_per_million=cost,
        savings=1 - cost / large_cost,
    )


def _by_rung(table: pa.Table, name: str) -> NDArray[np.float32]:
    """A column as float32 [N, R]."""
    values: NDArray[np.float32] = table[name].to_numpy().astype(np.float32)
    return values.reshape(-1, len(LADDER))


def _places(table: pa.Table, name: str, known: Sequence[str]) -> NDArray[np.int64]:
    """Index of each value of a column among those known, int64 [N, R]."""
    encoded = table[name].combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if not set(names) <= set(known):
        raise ValueError(f"an unknown {name}")
    places = np.array([known.index(one) for one in names], np.int64)
    return places[encoded.indices.to_numpy()].reshape(-1, len(LADDER))
