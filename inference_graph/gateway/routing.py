"""The decisions of one stream, with what the policy saw kept for the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feature_transformer.image import Frame
from feature_transformer.observation import Features
from inference_graph.contract import LADDER, Detections, Route
from inference_graph.detector.wire import DetectorFacts
from inference_graph.gateway.policy_in_use import PolicyInUse
from inference_graph.tracking import ReuseConfig, StreamTracks, TrackedDetections


class StreamRouter:
    """Decides for the frames of one stream, in order; make one for each stream.

    ``latency_weight`` is None and ``policy_revision`` empty where the rung is fixed.

    Attributes:
        facts: classes of the rung that looked last.
    """

    facts: DetectorFacts

    def __init__(
        self,
        in_use: PolicyInUse,
        latency_weight: float | None,
        track: bool = False,
        reuse: ReuseConfig | None = None,
        protected: frozenset[str] = frozenset(),
    ) -> None:
        """Route by the policy in use, or always to one rung.

        Args:
            in_use: the policy in use, or the fixed rung.
            latency_weight: operating point; the gateway's or the policy's own without it.
            track: whether the answers are fused.
            reuse: when the tracks answer a frame that no rung looks at; as the policy says without
                it.
            protected: names of classes that are looked at on every frame while they are in sight.

        Raises:
            ConfigurationError: a negative or not finite weight.
        """
        self._tracks = StreamTracks(protected=protected) if track else None
        self._reuse = reuse
        self._in_use = in_use
        self._wanted = latency_weight
        self._always = in_use.always
        self._router = in_use.router(latency_weight)

    @property
    def latency_weight(self) -> float | None:
        """The operating point of the frame at work, or of the last one."""
        return None if self._router is None else self._router.latency_weight

    @property
    def policy_revision(self) -> str:
        """Of the policy that decides for the frame at work, or decided for the last one."""
        return "" if self._router is None else self._router.policy.revision

    @property
    def seen(self) -> Features | None:
        """The last observation, float32 [OBSERVATION_SIZE]; None when the rung is fixed."""
        return None if self._router is None else self._router.seen

    def begin(self, session: str = "", frame_id: int | None = None) -> None:
        """Follow the policy in use; once for each frame, before anything is noted of it.

        A policy that takes over while a frame is at work decides from the next one on.

        Args:
            session: the stream's name.
            frame_id: the frame's number there; None for a single image.
        """
        if self._router is not None:
            self._in_use.renew(self._router, self._wanted, session, frame_id)

    def route(self, frame: Frame, load_ms: Sequence[float]) -> tuple[Route, Mapping[str, float]]:
        """Choose a rung.

        Args:
            frame: uint8 [height, width, 3], BGR.
            load_ms: expected wait of every rung in milliseconds.

        Returns:
            The decision, and milliseconds of ``observe`` and ``decide``.

        Raises:
            ModelError: the runtime failed.
        """
        if self._router is None:
            fixed = tuple(float(rung == self._always) for rung in LADDER)
            return Route(str(self._always), fixed), {"observe": 0.0, "decide": 0.0}
        return self._router.route(frame, load_ms), self._router.milliseconds

    def remember(self, rung: str, found: Detections, frame: Frame) -> None:
        """Keep what a rung saw on this frame, as the context of the next."""
        if self._router is not None:
            self._router.remember(rung, found, frame.shape)

    def fuse(
        self, number: int, rung: str, found: Detections, frame: Frame, facts: DetectorFacts
    ) -> TrackedDetections | None:
        """The state of the stream after a rung looked; None where each answer stands alone.

        Args:
            number: of the frame in its stream.
            rung: who looked.
            found: what it saw.
            frame: uint8 [height, width, 3], BGR.
            facts: the rung's classes.
        """
        self.facts = facts
        if self._tracks is None or found.texts is not None:
            return None  # what is read is answered as it is: tracks have no text
        return self._tracks.fuse(number, rung, found, frame.shape, facts.class_names)

    def reuse(self, number: int | None, frame: Frame) -> TrackedDetections | None:
        """The tracks moved on to the frame that was routed last; None where a rung has to look.

        Never without a policy; see :meth:`StreamTracks.reuse`.

        Args:
            number: of the frame in its stream; None for a single image.
            frame: uint8 [height, width, 3], BGR.
        """
        if number is None or self._tracks is None or self._router is None:
            return None
        config = self._reuse or self._router.policy.reuse
        return self._tracks.reuse(number, frame.shape, self._router.look_features, config)
