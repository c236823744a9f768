"""Behavioural cloning: a network predicts each rung's gain, and its decisions follow the labels.

The network regresses the differences between the rungs' worth; latency is paid for by arithmetic
behind it, so one network serves every operating point, and the best prediction of the differences
gives the least expected regret at all of them. The optimal labels set one number, how sharply
probabilities follow the predicted rewards: by maximum likelihood, so that a probability is the
chance that its rung is the label. The labels' loss does not reach the predictions: a frame's label
says less than the differences that it is made from, and at an operating point between two rungs it
is mostly noise.

Every frame is shown with each context it could have: after each rung, and after none. A policy is
an ensemble; each member learns from its own resample of the clips.

A clone may start from an older policy, of another camera, ladder or task: from its weights where
the shapes agree, and in any case with the older policy's predictions as so many more frames. The
fewer frames there are, the closer it stays to them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from components.parallel import Progress, no_progress, part_of
from components.policy.closed_loop import Decide, mean_reward
from components.policy.network import RungLogits
from components.policy.older_policy import network_of, take_over
from components.profiling.replay import Replay, load_replay, observations_of
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.path_roles import InputText
from foundation.storage import atomic_path
from inference_graph.contract import LADDER

CLONE_FILE = "clone.pt"


@configuration
class CloneConfig:
    """How the policy is cloned.

    Attributes:
        seeds: number of independent policies; the report's intervals come from them.
        steps: optimiser steps of each.
        batch: rows per step.
        learning_rate: AdamW's peak rate, under a cosine.
        weight_decay: AdamW's weight decay.
        members: networks in a policy, each on its own resample of the clips.
        hidden: width of the hidden layers.
        dropout: dropout of the hidden layers.
        uses_frame: whether the policy sees six numbers of the frame's own pixels beside the
            previous look. Routing then has to make the frame's part of the observation first.
        lowest_latency_weight: the operating points of labels are drawn between this and the next,
            evenly in the logarithm.
        highest_latency_weight: see above.
        seed: entropy of the first policy; the others count on from it.
        threads: processor threads of torch.
        start: ONNX file of an older policy to start from; from nothing without it.
        start_frames: how many frames the older policy's predictions count for.
    """

    seeds: Annotated[int, Field(ge=1)] = 5
    steps: Annotated[int, Field(ge=1)] = 1000
    batch: Annotated[int, Field(ge=1)] = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    members: Annotated[int, Field(ge=1)] = 8
    hidden: Annotated[int, Field(ge=1)] = 32
    dropout: float = 0.1
    uses_frame: bool = False
    lowest_latency_weight: float = 0.005
    highest_latency_weight: float = 1.0
    seed: int = 0
    threads: int = 1
    start: InputText = ""
    start_frames: Annotated[int, Field(ge=0)] = 200

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if not 0 < self.lowest_latency_weight <= self.highest_latency_weight:
            raise ConfigurationError(
                "latency weights must be above zero and the lowest not above the highest"
            )

    @property
    def operating_points(self) -> NDArray[np.float64]:
        """Eight operating points over the whole range, for validation."""
        return np.geomspace(self.lowest_latency_weight, self.highest_latency_weight, 8)


@dataclass(frozen=True)
class CloneSummary:
    """Mean validation reward per frame: of each seed, of the best fixed rung, of the labels."""

    seeds: tuple[float, ...]
    best_fixed_rung: float
    optimal: float


def decide_by(network: torch.nn.Module) -> Decide:
    """The greedy decision of a network of logits."""

    def decide(observations: NDArray[np.float32]) -> NDArray[np.int64]:
        with torch.no_grad():
            return network(torch.from_numpy(observations)).argmax(dim=1).numpy()

    return decide


def clone(
    replay: Path,
    out: Path,
    config: CloneConfig,
    progress: Progress = no_progress,
) -> CloneSummary:
    """Clone ``config.seeds`` policies.

    Args:
        replay: folder of the label stage.
        out: folder to write; holds ``seed-K/clone.pt``, a state dict of `RungLogits`.
        config: the recipe.
        progress: called with optimiser steps done and in all.

    Returns:
        Validation rewards, beside those of the best fixed rung and of the labels themselves.

    Raises:
        InvalidInput: the replay is broken, or a part of it is empty.
        StorageError: the disk is full.
    """
    torch.set_num_threads(config.threads)
    whole = load_replay(replay)
    learn, judge = whole.part("train"), whole.part("validation")
    points = config.operating_points
    start = network_of(Path(config.start)) if config.start else None
    found = []
    with atomic_path(out) as folder:
        for index in range(config.seeds):
            seed = config.seed + index
            shown = part_of(progress, index, config.seeds)
            network = clone_one(learn, config, seed, shown, start)
            found.append(mean_reward(judge, decide_by(network), points))
            place = folder / f"seed-{seed}"
            place.mkdir(parents=True)
            torch.save(
                {
                    "network": network.state_dict(),
                    "shape": network.shape,
                    "config": asdict(config),
                },
                place / CLONE_FILE,
            )
    rewards = np.stack([judge.reward(float(point)) for point in points])
    return CloneSummary(
        tuple(found),
        float(rewards.mean(axis=1).max(axis=1).mean()),
        float(rewards.max(axis=2).mean()),
    )


def clone_one(
    learn: Replay,
    config: CloneConfig,
    seed: int,
    progress: Progress = no_progress,
    start: RungLogits | None = None,
) -> RungLogits:
    """Clone one policy, from an older one's network where there is one.

    Raises:
        InvalidInput: the rewards are not finite.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    if not np.isfinite(learn.quality).all():
        raise InvalidInput("the replay holds qualities that are no numbers; label again")
    rows, looks = _contexts(learn)
    network = RungLogits(config.members, config.hidden, config.dropout, config.uses_frame)
    network.set_latency(learn.latency_ms.mean(axis=0).tolist())
    observations = torch.from_numpy(observations_of(learn.frames[rows], looks, 0.0))
    network.summary.fit(observations)
    older = None
    if start is not None:
        take_over(start, network)
        with torch.no_grad():
            older = start.quality(start.summary(observations)).mean(dim=0)
    anchor = config.start_frames / len(learn)
    summaries = network.summary(observations)
    worth = torch.from_numpy(learn.worth)[torch.from_numpy(rows)]
    ratio = torch.from_numpy(learn.latency_ratio)[torch.from_numpy(rows)]
    drawn_from = _resamples(learn, rows, config.members, rng)
    optimiser = torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    low, high = np.log([config.lowest_latency_weight, config.highest_latency_weight])
    network.train()
    for step in range(config.steps):
        # Every member has a batch of its own: [members, batch].
        batch = torch.from_numpy(
            np.stack([part[rng.integers(0, len(part), config.batch)] for part in drawn_from])
        )
        weight = torch.from_numpy(np.exp(rng.uniform(low, high, (*batch.shape, 1)))).float()
        reward = worth[batch] - weight * ratio[batch]
        predicted = network.quality(summaries[batch])
        error = ((_centred(predicted) - _centred(worth[batch])) ** 2).mean()
        if older is not None:
            error += anchor * ((_centred(predicted) - _centred(older[batch])) ** 2).mean()
        known = predicted.detach()
        logits = network.logits(known, torch.zeros_like(known), weight)
        likelihood = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), reward.argmax(dim=-1).flatten()
        )
        loss = error + likelihood
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.quality.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        progress(step + 1, config.steps)
    return network.eval()


def load_clone(path: Path) -> RungLogits:
    """Read a clone's network.

    Raises:
        InvalidInput: the file is none.
    """
    try:
        state = torch.load(path, weights_only=True)
        network = RungLogits(**state["shape"])
        network.load_state_dict(state["network"])
    except (
        OSError,
        EOFError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        UnpicklingError,
    ) as error:
        raise InvalidInput(f"{path} is no clone ({type(error).__name__}); clone again") from error
    return network.eval()


def _centred(values: torch.Tensor) -> torch.Tensor:
    """Differences between the rungs; what all rungs find is no reason to choose one."""
    return values - values.mean(dim=-1, keepdim=True)


def _resamples(
    replay: Replay, rows: NDArray[np.int64], members: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Each member's rows: as many clips as there are, drawn with replacement."""
    _, clip_of = np.unique(replay.clips[rows], return_inverse=True)
    by_clip = [np.flatnonzero(clip_of == clip) for clip in range(int(clip_of.max()) + 1)]
    return [
        np.concatenate([by_clip[i] for i in rng.integers(0, len(by_clip), len(by_clip))])
        for _ in range(members)
    ]


def _contexts(replay: Replay) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Every frame with every context it could have: rows int64 [m], look blocks float32 [m, 16]."""
    inside = np.flatnonzero(replay.previous >= 0)
    rows = [np.arange(len(replay))]
    looks = [np.zeros((len(replay), replay.looks.shape[2]), np.float32)]
    for rung in range(len(LADDER)):
        rows.append(inside)
        looks.append(replay.looks[replay.previous[inside], rung])
    return np.concatenate(rows), np.concatenate(looks)
