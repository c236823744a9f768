"""How a rollout goes: its steps, the limits of harm, and how sure it has to be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER

POLICY = "policy"
"""What is rolled out where it is no rung."""
MODELS = (*LADDER, POLICY)
METRICS = ("errors", "latency", "agreement", "retained")
"""What is compared; the error rates are divided among them."""
FULL = 100


@configuration
class RolloutPlan:
    """How a rollout goes.

    Attributes:
        steps: shares of the traffic in whole per cent, rising to 100.
        false_rollback: chance that a revision which is never worse than the limits is rolled back,
            however often it is checked; over all steps and metrics together.
        missed_harm: chance that a step lets a revision pass that is worse than a limit.
        error_limit: frames that the revision fails to answer may be more by this share, 0..1.
        latency_limit: its time for a frame may be longer by this factor.
        agreement_limit: its agreement with the reference may be lower by so much, 0..1.
        retained_limit: the accuracy retained may be lower by this share of itself, 0..1.
        without_accuracy: promote without evidence of accuracy, where there are no shadows.
        shadow_share: share of the frames that the reference answers as well during the rollout
            (their shadow), 0..1; half of them are the canary's.
        min_seconds: a step lasts at least so long.
        max_hours: a step that cannot be decided after so long is rolled back.
        every_seconds: pause between two reads of the log.
        settle_seconds: answers of this time after a change of traffic do not count.
        ready_seconds: how long the new revision may take until it answers; on a cluster, how long
            nothing may change of what is waited for. Longer than the probes of a pod that starts.
        segment_frames: a stream keeps to one policy for so many frames before it is drawn again.
    """

    steps: tuple[int, ...] = (5, 25, 50, 100)
    false_rollback: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.05
    missed_harm: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.05
    error_limit: Annotated[float, Field(ge=1e-4, le=0.5)] = 0.005
    latency_limit: Annotated[float, Field(ge=1.01, le=10.0)] = 1.15
    agreement_limit: Annotated[float, Field(ge=1e-4, le=0.5)] = 0.03
    retained_limit: Annotated[float, Field(ge=1e-4, le=0.5)] = 0.025
    without_accuracy: bool = False
    shadow_share: Share = 0.1
    min_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    max_hours: Annotated[float, Field(ge=0.001, le=24 * 365)] = 24.0
    every_seconds: Annotated[float, Field(ge=0.05, le=3600)] = 10.0
    settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = 5.0
    ready_seconds: Annotated[float, Field(ge=1, le=3600)] = 600.0
    segment_frames: Annotated[int, Field(ge=1, le=10**6)] = 100

    def __post_init__(self) -> None:
        """Refuse steps that do not rise to 100.

        Raises:
            ConfigurationError: names them.
        """
        steps = self.steps
        rising = all(low < high for low, high in zip(steps, steps[1:], strict=False))
        if not steps or not rising or steps[0] < 1 or steps[-1] != FULL:
            raise ConfigurationError(
                f"steps is {','.join(map(str, steps))}; give rising whole per cent that end "
                "with 100, as 5,25,50,100"
            )

    @property
    def alpha(self) -> float:
        """The part of ``false_rollback`` that each metric has in each step (Bonferroni).

        At the last step nothing is left to compare with, so it is not counted.
        """
        return self.false_rollback / (len(METRICS) * max(len(self.steps) - 1, 1))


def shadow_shares(model: str, weight: int, share: float) -> tuple[float, float]:
    """Shares of the canary's and of the stable revision's frames that have a shadow.

    Both arms have the same number of shadows, so that the smaller one is not slower to judge, and
    together they are ``share`` of all frames. Those of a policy's segments are spread evenly. Where
    the reference itself is rolled out, only the canary's frames have one: it is compared with the
    stable revision.

    Args:
        model: a rung, or "policy".
        weight: of the canary, per cent.
        share: of all frames, 0..1.

    Returns:
        Of the canary and of the stable revision, 0..1 each.
    """
    part = weight / FULL
    if not 0 < part < 1 or model == POLICY:
        return share, share
    if model == LADDER[-1]:
        return min(1.0, share / part), 0.0
    return min(1.0, share / 2 / part), min(1.0, share / 2 / (1 - part))
