"""Why a rung: which cells of the thumbnail and which numbers moved the decision.

The score explained is the margin of the chosen rung over the runner-up,
``log p(chosen) - log p(runner-up)``: above 0 the policy chooses it, and each number's contribution
gives how far it moved the margin. Contributions are integrated gradients (M. Sundararajan, A. Taly,
Q. Yan, Axiomatic Attribution for Deep Networks, ICML 2017): the slope of the margin along each
number, averaged over the straight way from a baseline to the observation, times the number's
distance from the baseline. They add up to the margin minus the baseline's, up to the steps of the
sum. Slopes are central differences, so any ONNX policy can be explained.

The baseline is an empty frame of the same brightness: no edges, no previous look, idle queues, at
the same operating point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_transformer.observation import (
    FRAME_FEATURES,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    THUMBNAIL,
)
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER
from inference_graph.router.policy import Policy

_STEPS = 8
_PITCH = 1e-2
_CELLS = THUMBNAIL * THUMBNAIL
_LEAST = 1e-9


@dataclass(frozen=True)
class Attribution:
    """Contributions to one decision.

    Attributes:
        chosen: the rung whose margin is explained.
        runner_up: the rung it is ahead of.
        margin: ``log p(chosen) - log p(runner-up)``.
        baseline_margin: the same of the baseline.
        contributions: float32 [OBSERVATION_SIZE]; they add up to the difference of both.
    """

    chosen: str
    runner_up: str
    margin: float
    baseline_margin: float
    contributions: npt.NDArray[np.float32]

    @property
    def thumbnail(self) -> npt.NDArray[np.float32]:
        """Of the thumbnail's cells, float32 [32, 32]."""
        return self.contributions[:_CELLS].reshape(THUMBNAIL, THUMBNAIL)

    @property
    def edges(self) -> npt.NDArray[np.float32]:
        """Of the edge densities, float32 [4]: top-left, top-right, bottom-left, bottom-right."""
        return self.contributions[_CELLS:FRAME_FEATURES]

    @property
    def context(self) -> npt.NDArray[np.float32]:
        """Of the context block, float32 [20]."""
        return self.contributions[FRAME_FEATURES:]


def baseline_of(observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The empty frame an observation is compared with, float32 [OBSERVATION_SIZE]."""
    baseline = np.zeros(OBSERVATION_SIZE, np.float32)
    baseline[:_CELLS] = observation[:_CELLS].mean()
    baseline[PREFERENCE_INDEX] = observation[PREFERENCE_INDEX]
    return baseline


def attribute(policy: Policy, observation: npt.NDArray[np.float32]) -> Attribution:
    """Explain one decision.

    Args:
        policy: what decided.
        observation: float32 [OBSERVATION_SIZE], as the policy saw it.

    Raises:
        InvalidInput: an observation of another size, or one that is not finite.
        ModelError: the runtime failed.
    """
    seen = np.asarray(observation, np.float32)
    if seen.shape != (OBSERVATION_SIZE,) or not np.isfinite(seen).all():
        raise InvalidInput(
            f"an observation of shape {list(seen.shape)}; {OBSERVATION_SIZE} finite numbers are "
            "needed to explain a decision"
        )
    baseline = baseline_of(seen)
    logs = _logs(policy, np.stack([seen, baseline]))
    order = np.argsort(-logs[0], kind="stable")
    chosen, runner_up = int(order[0]), int(order[1])
    margins = logs[:, chosen] - logs[:, runner_up]
    moved = np.flatnonzero(seen != baseline)
    slopes = np.zeros(OBSERVATION_SIZE, np.float64)
    pitches = np.zeros((len(moved), OBSERVATION_SIZE), np.float32)
    pitches[np.arange(len(moved)), moved] = _PITCH
    for step in range(_STEPS):
        point = baseline + (step + 0.5) / _STEPS * (seen - baseline)
        up, down = _logs(policy, point + pitches), _logs(policy, point - pitches)
        rise = (up - down)[:, chosen] - (up - down)[:, runner_up]
        slopes[moved] += rise / (2 * _PITCH * _STEPS)
    return Attribution(
        chosen=LADDER[chosen],
        runner_up=LADDER[runner_up],
        margin=float(margins[0]),
        baseline_margin=float(margins[1]),
        contributions=(slopes * (seen - baseline)).astype(np.float32),
    )


def _logs(policy: Policy, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    if not len(observations):
        return np.zeros((0, len(LADDER)))
    _, probabilities = policy.decide(observations.astype(np.float32))
    return np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
