"""What an older policy saves: the reward by labelled frames, from nothing and from that policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.parallel import Progress, no_progress
from components.policy.clone import CloneConfig, clone_one, decide_by
from components.policy.closed_loop import mean_reward
from components.policy.network import RungLogits
from components.policy.older_policy import network_of
from components.profiling.replay import Replay, load_replay
from foundation.errors import ConfigurationError

_CONFIDENCE = 0.95
_RESAMPLES = 2000
_LEAST_GAIN = 1e-9


@dataclass(frozen=True)
class CurveConfig:
    """How the curves are measured.

    Attributes:
        points: numbers of labelled clips, each half the next one; the last is all there are.
        draws: draws of the clips at each number; both policies learn from the same ones.
        seed: entropy of the first draw.
    """

    points: int = 5
    draws: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if self.points < 2 or self.draws < 2:
            raise ConfigurationError("points and draws must be at least 2")


@dataclass(frozen=True)
class LearningPoint:
    """Both policies after so many labelled frames.

    A score is the share of what the labels win over the best fixed rung: 0 is that rung, 1 the
    best rung of every frame.

    Attributes:
        frames: labelled frames learned from, a mean over the draws.
        scratch: mean score of the policy from nothing.
        started: likewise from the older policy.
        gain: the paired difference's mean.
        gain_interval: its 95 % interval over the draws.
        frames_from_scratch: frames from nothing that reach ``started``; None where all there are
            do not.
    """

    frames: int
    scratch: float
    started: float
    gain: float
    gain_interval: tuple[float, float]
    frames_from_scratch: int | None


@dataclass(frozen=True)
class LearningCurves:
    """Both curves.

    Attributes:
        unchanged: score of the older policy as it is.
        points: by labelled frames, fewest first; none where the labels win nothing over the best
            fixed rung, so that nothing can be saved.
    """

    unchanged: float
    points: tuple[LearningPoint, ...]


def learning_curves(
    replay: Path,
    start: Path,
    recipe: CloneConfig,
    config: CurveConfig,
    progress: Progress = no_progress,
) -> LearningCurves:
    """Clone with more and more labelled clips, from nothing and from an older policy.

    Args:
        replay: folder of the label stage; its test part judges.
        start: the older policy's ONNX file.
        recipe: how both are cloned.
        config: how the curves are measured.
        progress: called with policies cloned and in all.

    Raises:
        InvalidInput: the replay is broken, or a part of it is empty.
        ModelError: ``start`` is no policy.
    """
    whole, older = load_replay(replay), network_of(start)
    learn, judge = whole.part("train", "validation"), whole.part("test")
    weights = recipe.operating_points
    rewards = np.stack([judge.reward(float(weight)) for weight in weights])
    fixed, best = rewards.mean(axis=1).max(axis=1).mean(), rewards.max(axis=2).mean()

    if best - fixed < _LEAST_GAIN:
        return LearningCurves(0.0, ())

    def score(network: RungLogits) -> float:
        reward = mean_reward(judge, decide_by(network), weights)
        return float((reward - fixed) / (best - fixed))

    older.set_latency(learn.latency_ms.mean(axis=0).tolist())
    clips = len(learn.clip_bounds)
    counts = sorted({max(1, clips >> halvings) for halvings in range(config.points)})
    frames = np.zeros((len(counts), config.draws))
    scores = np.zeros((len(counts), config.draws, 2))
    plain = replace(recipe, start="")
    for at, count in enumerate(counts):
        for draw in range(config.draws):
            seed = config.seed + draw
            few = _drawn(learn, count, seed)
            frames[at, draw] = len(few)
            for which, network in enumerate((None, older)):
                scores[at, draw, which] = score(clone_one(few, plain, seed, start=network))
                done = (at * config.draws + draw) * 2 + which + 1
                progress(done, len(counts) * config.draws * 2)
    return LearningCurves(score(older), _points(frames.mean(axis=1), scores, config.seed))


def _drawn(learn: Replay, count: int, seed: int) -> Replay:
    """So many whole clips, drawn without replacement; more of a seed hold the fewer."""
    bounds = learn.clip_bounds
    keep = np.zeros(len(learn), bool)
    for clip in np.random.default_rng(seed).permutation(len(bounds))[:count]:
        keep[bounds[clip, 0] : bounds[clip, 1]] = True
    return learn.take(keep)


def _points(
    frames: NDArray[np.float64], scores: NDArray[np.float64], seed: int
) -> tuple[LearningPoint, ...]:
    draws = scores.shape[1]
    resamples = np.random.default_rng(seed).integers(0, draws, (_RESAMPLES, draws))
    tail = (1 - _CONFIDENCE) / 2
    scratch, started = scores[:, :, 0].mean(axis=1), scores[:, :, 1].mean(axis=1)
    found = []
    for at in range(len(frames)):
        gain = scores[at, :, 1] - scores[at, :, 0]
        low, high = np.quantile(gain[resamples].mean(axis=1), (tail, 1 - tail))
        needed = frames_to_reach(frames, scratch, float(started[at]))
        found.append(
            LearningPoint(
                frames=round(float(frames[at])),
                scratch=float(scratch[at]),
                started=float(started[at]),
                gain=float(gain.mean()),
                gain_interval=(float(low), float(high)),
                frames_from_scratch=None if needed is None else round(needed),
            )
        )
    return tuple(found)


def frames_to_reach(
    frames: NDArray[np.float64], scores: NDArray[np.float64], wanted: float
) -> float | None:
    """Labelled frames at which a curve reaches a score; None where it does not.

    Between two points the score grows evenly with the logarithm of the frames. Below the first
    point it is that point's frames.
    """
    reached = np.maximum.accumulate(scores)
    if wanted > reached[-1]:
        return None
    at = int(np.searchsorted(reached, wanted))
    if at == 0:
        return float(frames[0])
    share = (wanted - reached[at - 1]) / (reached[at] - reached[at - 1])
    low, high = np.log(frames[at - 1]), np.log(frames[at])
    return float(np.exp(low + share * (high - low)))
