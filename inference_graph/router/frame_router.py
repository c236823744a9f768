"""Routing one stream: each frame's context is what the chosen rung saw on the frame before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from feature_transformer.context import LOOK_NAMES
from feature_transformer.image import Frame, check_frame
from feature_transformer.observation import (
    FRAME_FEATURES,
    Features,
    Look,
    context_features,
    preference,
)
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER, Detections, Route
from inference_graph.router.policy import Policy

_NO_FRAME = np.zeros(FRAME_FEATURES, np.float32)
"""What a policy that does not read the frame's own part gets in its place."""


class FrameRouter:
    """Decides for the frames of one stream, in order; make one for each stream.

    It is not thread-safe, because its memory is the stream's own order.

    Attributes:
        policy: what decides.
        latency_weight: the operating point in use.
        milliseconds: wall time of ``observe`` and ``decide`` on the last frame routed.
    """

    def __init__(self, policy: Policy, latency_weight: float | None = None) -> None:
        """Start without memory.

        Args:
            policy: what decides.
            latency_weight: the operating point; the policy's own without it.

        Raises:
            ConfigurationError: a negative or not finite weight.
        """
        self.use(policy, latency_weight)
        self.milliseconds: Mapping[str, float] = {"observe": 0.0, "decide": 0.0}
        self._frame: Frame | None = None
        self._context: Features | None = None
        self._seen: Features | None = None
        self._look: Look | None = None

    def use(self, policy: Policy, latency_weight: float | None = None) -> None:
        """Decide by this policy from the next frame on.

        What was remembered stays: every policy that loads sees the same observation.

        Args:
            policy: what decides.
            latency_weight: the operating point; the policy's own without it.

        Raises:
            ConfigurationError: a negative or not finite weight.
        """
        weight = policy.latency_weight if latency_weight is None else latency_weight
        preference(weight)  # refuses a bad weight here, not on the first frame
        self.policy, self.latency_weight = policy, weight

    def route(self, frame: Frame, load_ms: Sequence[float] = (0.0, 0.0, 0.0)) -> Route:
        """Choose a rung for the next frame.

        Args:
            frame: uint8 [height, width, 3], BGR.
            load_ms: expected wait in milliseconds in the queue of every rung.

        Raises:
            ImageError: the array is no frame.
            ConfigurationError: not one finite number per rung in ``load_ms``.
            ModelError: the runtime failed.
        """
        start = time.perf_counter()
        check_frame(frame)
        context = context_features(self._look, load_ms, self.latency_weight)
        self._frame, self._context, self._seen = frame, context, None
        if self.policy.uses_frame:
            seen = self._seen = self.policy.maker.observation(frame, context)
        else:
            seen = np.concatenate((_NO_FRAME, context))
        observed = time.perf_counter()
        actions, probabilities = self.policy.decide(seen[np.newaxis])
        decided = time.perf_counter()
        self.milliseconds = {
            "observe": (observed - start) * 1e3,
            "decide": (decided - observed) * 1e3,
        }
        return Route(LADDER[int(actions[0])], tuple(float(share) for share in probabilities[0]))

    @property
    def look_features(self) -> Features | None:
        """What the policy knew of the last look, float32 [16]; None before the first frame."""
        return None if self._context is None else self._context[: len(LOOK_NAMES)]

    @property
    def seen(self) -> Features | None:
        """The observation of the last frame routed, float32 [OBSERVATION_SIZE].

        Where the policy decides without the frame's own part, that is made when it is first asked
        for, of the frame as it is then. None before the first frame.
        """
        if self._seen is None and self._frame is not None and self._context is not None:
            self._seen = self.policy.maker.observation(self._frame, self._context)
        return self._seen

    def remember(self, rung: str, detections: Detections, frame_shape: Sequence[int]) -> None:
        """Keep what a rung saw, as the context of the next frame.

        Args:
            rung: the rung that answered, which need not be the one that was chosen.
            detections: what it saw, in pixels of the frame.
            frame_shape: the frame's (height, width, ...).

        Raises:
            ConfigurationError: no rung of that name.
        """
        if rung not in LADDER:
            raise ConfigurationError(f"rung {rung!r} is none of {', '.join(LADDER)}")
        self._look = Look(
            LADDER.index(rung),
            detections.boxes,
            detections.scores,
            detections.labels,
            width=int(frame_shape[1]),
            height=int(frame_shape[0]),
        )

    def forget(self) -> None:
        """Treat the next frame as a first one, for example after a cut."""
        self._look = None
