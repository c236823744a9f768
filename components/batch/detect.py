"""Frames decided one by one and detected in batches, several of them at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.profiling.rungs import InferenceConfig, check_siblings, open_rung
from feature_transformer.image import Frame
from feature_transformer.makers import DETECTION
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER, Answer, Route
from inference_graph.detections import DetectionFilter, detections_json
from inference_graph.router import FrameRouter, Policy
from inference_graph.tasks.rung import Rung


@dataclass(frozen=True)
class BatchFrame:
    """A frame that is decided and not detected yet.

    Attributes:
        source: path of its image or video.
        number: of the frame in its video.
        seconds: its time stamp.
        frame: uint8 [height, width, 3], BGR.
        route: the decision.
        settle: called with its record once it is detected.
    """

    source: str
    number: int
    seconds: float
    frame: Frame
    route: Route
    settle: Callable[[dict[str, Any]], None]


class Decider:
    """The policy, or a rung that is fixed."""

    def __init__(
        self,
        policy: Path | None,
        always: str | None,
        weight: float | None,
        task: str = DETECTION,
    ) -> None:
        """Load the policy.

        Raises:
            SchemaMismatch: the policy is of another task than the ladder.
            ConfigurationError: neither a policy nor a rung.
            ModelError: the policy cannot be used.
        """
        if policy is None and always is None:
            raise ConfigurationError(
                f"no policy given; name one, or fix the rung: always one of {', '.join(LADDER)}"
            )
        self._policy = None if always is not None or policy is None else Policy(policy, task=task)
        self._fixed = Route(always or LADDER[0], tuple(float(one == always) for one in LADDER))
        self._weight = weight
        self.rungs = LADDER if self._policy is not None else (self._fixed.model,)
        self.revision = self._policy.revision if self._policy is not None else ""

    def router(self) -> FrameRouter | None:
        """Memory of a stream; None where the rung is fixed."""
        return None if self._policy is None else FrameRouter(self._policy, self._weight)

    def route(self, router: FrameRouter | None, frame: Frame) -> Route:
        """Decide for a frame."""
        return self._fixed if router is None else router.route(frame)


class DetectorPool:
    """The rungs, several inferences at a time; a context manager that waits for the last ones.

    On a CPU as many inferences run as there are workers, each on one thread: no core waits for the
    slowest part of another's.
    """

    def __init__(
        self,
        ladder: Mapping[str, Path],
        rungs: Sequence[str],
        config: InferenceConfig,
        workers: int,
    ) -> None:
        """Load the weights.

        Raises:
            ConfigurationError: a rung is missing, or settings out of range.
            ModelError: weights cannot be used, or their classes differ.
        """
        missing = [rung for rung in rungs if rung not in ladder]
        if missing:
            raise ConfigurationError(f"the ladder lacks {', '.join(missing)}; name weights for it")
        self.detectors: dict[str, Rung] = {
            rung: open_rung(rung, ladder[rung], config) for rung in rungs
        }
        check_siblings(self.detectors)
        self.workers = workers
        self._threads = ThreadPoolExecutor(workers, "batch-detect")

    def __enter__(self) -> DetectorPool:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._threads.shutdown(cancel_futures=error is not None)

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Run a task on a worker."""
        return self._threads.submit(work)

    def detect(
        self, rung: str, frames: Sequence[BatchFrame], wanted: DetectionFilter, revision: str
    ) -> list[Answer]:
        """Detect a batch on this thread and settle its frames."""
        detector = self.detectors[rung]
        answers = detector.detect_many([one.frame for one in frames])
        for one, answer in zip(frames, answers, strict=True):
            found = wanted.keep(answer.detections, detector.class_names)
            one.settle(
                {
                    "type": "detections",
                    "source": one.source,
                    "frame": one.number,
                    "seconds": round(one.seconds, 6),
                    "width": one.frame.shape[1],
                    "height": one.frame.shape[0],
                    "rung": rung,
                    "probabilities": [round(share, 4) for share in one.route.probabilities],
                    "detections": detections_json(
                        found, detector.class_names, detector.category_ids
                    ),
                    "policy_revision": revision,
                    "weights_revision": detector.revision,
                }
            )
        return answers
