"""One rung of the ladder: an Ultralytics YOLO export behind ONNX Runtime."""

from __future__ import annotations

import ast
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from feature_transformer.image import Frame, check_frame
from feature_transformer.makers import DETECTION
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, ModelError
from inference_graph.coco_categories import category_ids
from inference_graph.contract import (
    CATEGORY_IDS_KEY,
    DETECTOR_INPUT,
    DETECTOR_OUTPUT,
    IMAGE_SIZE_KEY,
    LADDER,
    NAMES_KEY,
    TASK_KEY,
    Answer,
    Detections,
)
from inference_graph.detector.letterbox import Letterbox
from inference_graph.detector.suppression import candidates, suppress
from inference_graph.operators import DETECTOR_OPERATORS
from inference_graph.sessions import OpenModel, open_model, run

_NOTE_LIMIT = 100_000
"""Longest metadata text that is parsed."""
_DETECT = "detect"
"""What Ultralytics calls the task in the metadata of a detector."""


@configuration
class DetectorConfig:
    """How one rung is run.

    Attributes:
        weights: the ONNX file.
        rung: its place in the ladder.
        confidence: scores must be greater than this, 0..1.
        iou: overlap above which the weaker of two boxes of a class is dropped, 0..1.
        max_detections: at most so many per image.
        threads: threads of one inference.
        threads_beside: threads of an inference that begins while another runs, or is expected to
            one of many; without it all share the threads of one. It takes a second copy of the
            weights. Two inferences of one thread each get more done than two that wait for each
            other's.
        providers: ONNX Runtime execution providers, the preferred one first.
        multi_label: whether an anchor counts for every class above the confidence (as
            Ultralytics' validation does) or for its best class only.
        max_candidates: at most so many enter the suppression, the best ones.
        input_size: (height, width) for weights with dynamic axes; without it, what their
            metadata state.
        sha256: digest the weights must have; not checked without it.
        trust: trust file; weights that none of its keys signed are refused. Not checked without it.
    """

    weights: Path
    rung: str
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.01
    iou: Annotated[float, Field(ge=0, le=1)] = 0.7
    max_detections: Annotated[int, Field(ge=1)] = 100
    threads: Annotated[int, Field(ge=1)] = 2
    threads_beside: Annotated[int, Field(ge=1)] | None = None
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    multi_label: bool = False
    max_candidates: Annotated[int, Field(ge=1)] = 1000
    input_size: tuple[int, int] | None = None
    sha256: str | None = None
    trust: Path | None = None

    def __post_init__(self) -> None:
        if self.rung not in LADDER:
            raise ConfigurationError(f"rung {self.rung!r} is none of {', '.join(LADDER)}")


class Detector:
    """A loaded rung; :meth:`detect` may be called from several threads.

    Attributes:
        config: what it was made from.
        class_names: names of its classes, in class order.
        category_ids: COCO category id of every class.
        input_size: (height, width) its network sees.
        batches: whether its network takes several images at once.
        revision: first 12 hexadecimal digits of the SHA-256 of its weights.
        sha256: the whole digest.
    """

    task: ClassVar[str] = DETECTION
    reads: ClassVar[bool] = False

    def __init__(self, config: DetectorConfig, model: OpenModel | None = None) -> None:
        """Load the weights and run them once.

        Args:
            config: how it is run.
            model: the weights as another runtime opened them; ``config.threads`` and
                ``config.providers`` are settled then.

        Raises:
            ModelError: no ONNX, not the tensors of a YOLO detector, class names missing or in
                another number than the scores, or not signed as they must be.
            ConfigurationError: threads or providers this machine does not have.
        """
        if model is None:
            model = _opened(config, config.threads)
        self.config = config
        self._model = model
        _refuse_other_tasks(model)
        self._beside = (
            _opened(config, config.threads_beside)
            if config.threads_beside is not None and config.threads_beside != config.threads
            else model
        )
        self._running = 0
        self._counting = threading.Lock()
        self.class_names = _class_names(model)
        self.category_ids = _category_ids(model, self.class_names)
        self.input_size = _input_size(model, config.input_size)
        self.batches = not isinstance(model.session.get_inputs()[0].shape[0], int)
        self.sha256 = model.sha256
        self.revision = model.revision
        # Symbolic output shapes prove nothing, so the proof is a run; it warms up as well.
        blank = np.zeros((2 if self.batches else 1, 3, *self.input_size), np.float32)
        for concurrent in (False, True):
            if not np.isfinite(self._infer(blank, concurrent)).all():
                raise ModelError(
                    f"{config.weights} answers numbers that are not finite, so its weights are "
                    "broken; export it again"
                )

    @property
    def running_providers(self) -> tuple[str, ...]:
        """Execution providers ONNX Runtime really uses, which need not be those asked for."""
        return tuple(self._model.session.get_providers())

    def detect(self, frame: Frame) -> Answer:
        """Find objects.

        Args:
            frame: uint8 [height, width, 3], BGR.

        Returns:
            Detections in pixels of ``frame`` by falling score, and the time each stage took.

        Raises:
            ImageError: the array is no frame.
            ModelError: the runtime failed.
        """
        return self.detect_many((frame,))[0]

    def detect_many(self, frames: Sequence[Frame], concurrent: bool = False) -> list[Answer]:
        """Find objects in several frames, by one inference where the network takes batches.

        Args:
            frames: each uint8 [height, width, 3], BGR; they may differ in size.
            concurrent: whether others come at the same time, so that this one shall take the
                threads of one beside another even if it is alone now.

        Returns:
            One answer per frame. Frames that shared an inference all report its whole time,
            for all of them waited so long.

        Raises:
            ImageError: an array is no frame.
            ModelError: the runtime failed.
        """
        for frame in frames:
            check_frame(frame, sound=False)
        if self.batches and len(frames) > 1:
            return self._detect(frames, concurrent)
        return [answer for frame in frames for answer in self._detect((frame,), concurrent)]

    def _detect(self, frames: Sequence[Frame], concurrent: bool) -> list[Answer]:
        inputs = []
        for frame in frames:
            start = time.perf_counter()
            placed = Letterbox.fit((frame.shape[0], frame.shape[1]), self.input_size)
            inputs.append((placed, placed.tensor(frame), time.perf_counter() - start))
        prepared = time.perf_counter()
        stacked = inputs[0][1] if len(inputs) == 1 else np.concatenate([one[1] for one in inputs])
        outputs = self._infer(stacked, concurrent)
        inference = time.perf_counter() - prepared
        answers = []
        for (placed, _, preprocess), output in zip(inputs, outputs, strict=True):
            start = time.perf_counter()
            detections = self._read(output, placed)
            seconds = {
                "preprocess": preprocess,
                "inference": inference,
                "postprocess": time.perf_counter() - start,
            }
            milliseconds = {stage: spent * 1e3 for stage, spent in seconds.items()}
            answers.append(Answer(detections, milliseconds, self.config.rung, self.revision))
        return answers

    def _infer(
        self, tensor: npt.NDArray[np.float32], concurrent: bool = False
    ) -> npt.NDArray[np.float32]:
        """float32 [n, 4 + classes, anchors] for float32 [n, 3, height, width]."""
        with self._chosen_model(concurrent) as model:
            output: Any = run(model, (DETECTOR_OUTPUT,), {DETECTOR_INPUT: tensor})[0]
        images, rows = len(tensor), 4 + len(self.class_names)
        if output.ndim != 3 or output.shape[:2] != (images, rows) or output.dtype != np.float32:
            raise ModelError(
                f"{self._model.path} answers {output.dtype} {list(output.shape)}, but its "
                f"{len(self.class_names)} classes need float32 [{images}, {rows}, anchors]; "
                "export a YOLO detector without built-in suppression"
            )
        return np.asarray(output, np.float32)

    @contextlib.contextmanager
    def _chosen_model(self, concurrent: bool = False) -> Iterator[OpenModel]:
        """All threads for an inference that is alone, few for one beside another."""
        with self._counting:
            alone = not self._running and not concurrent
            self._running += 1
        try:
            yield self._model if alone else self._beside
        finally:
            with self._counting:
                self._running -= 1

    def _read(self, output: npt.NDArray[np.float32], placed: Letterbox) -> Detections:
        found = candidates(
            output, self.config.confidence, self.config.multi_label, self.config.max_candidates
        )
        kept = suppress(found, self.config.iou, self.config.max_detections)
        return Detections(
            placed.boxes_to_frame(found.boxes[kept]), found.scores[kept], found.labels[kept]
        )


def _opened(config: DetectorConfig, threads: int) -> OpenModel:
    return open_model(
        config.weights,
        threads,
        config.providers,
        config.sha256,
        trust=config.trust,
        operators=DETECTOR_OPERATORS,
    )


def _refuse_other_tasks(model: OpenModel) -> None:
    task = model.metadata.get(TASK_KEY, _DETECT)
    if task != _DETECT:
        raise ModelError(
            f"{model.path} is a network for the task {task[:40]!r}, and a rung detects; "
            "export a YOLO detector"
        )


def _class_names(model: OpenModel) -> tuple[str, ...]:
    text = model.metadata.get(NAMES_KEY)
    if text is None:
        raise ModelError(
            f"{model.path} has no class names in its metadata; export it with Ultralytics or "
            "`gearshift ladder export`"
        )
    names = _literal(model, NAMES_KEY, text)
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or set(names) != set(range(len(names))):
        raise ModelError(f"{model.path}: its class names are not numbered 0 to n-1: {text[:80]}")
    return tuple(str(names[index]) for index in range(len(names)))


def _category_ids(model: OpenModel, names: tuple[str, ...]) -> tuple[int, ...]:
    text = model.metadata.get(CATEGORY_IDS_KEY)
    if text is None:
        return category_ids(names)
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        ids = None
    proper = isinstance(ids, list) and all(type(number) is int for number in ids)
    if not proper or len(ids) != len(names) or len(set(ids)) != len(ids):
        raise ModelError(
            f"{model.path}: {CATEGORY_IDS_KEY} is no list of {len(names)} different ids: "
            f"{text[:80]}"
        )
    return tuple(ids)


def _input_size(model: OpenModel, wanted: tuple[int, int] | None) -> tuple[int, int]:
    inputs = {tensor.name: tensor for tensor in model.session.get_inputs()}
    outputs = {tensor.name for tensor in model.session.get_outputs()}
    tensor = inputs.get(DETECTOR_INPUT)
    if (
        tensor is None
        or len(inputs) != 1
        or DETECTOR_OUTPUT not in outputs
        or tensor.type != "tensor(float)"
        or len(tensor.shape) != 4
        or tensor.shape[1] != 3
    ):
        raise ModelError(
            f"{model.path} takes {_described(model.session.get_inputs())} and gives "
            f"{_described(model.session.get_outputs())}; a detector takes {DETECTOR_INPUT} "
            f"float32 [1, 3, height, width] and gives {DETECTOR_OUTPUT}"
        )
    fixed = tuple(side if isinstance(side, int) else None for side in tensor.shape[2:])
    size = wanted or _noted_size(model.metadata, model) or (640, 640)
    height, width = (side or other for side, other in zip(fixed, size, strict=True))
    if wanted is not None and wanted != (height, width):
        raise ConfigurationError(
            f"{model.path} has a fixed input of {height}x{width}, not {wanted[0]}x{wanted[1]}; "
            "leave the input size out"
        )
    if height < 1 or width < 1:
        raise ModelError(f"{model.path} declares an input of {height}x{width} pixels")
    return height, width


def _noted_size(metadata: Mapping[str, str], model: OpenModel) -> tuple[int, int] | None:
    text = metadata.get(IMAGE_SIZE_KEY)
    if text is None:
        return None
    size = _literal(model, IMAGE_SIZE_KEY, text)
    if isinstance(size, int):
        size = [size, size]
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise ModelError(f"{model.path}: {IMAGE_SIZE_KEY} is no [height, width]: {text[:80]}")
    return size[0], size[1]


def _literal(model: OpenModel, key: str, text: str) -> Any:
    try:
        return ast.literal_eval(text[:_NOTE_LIMIT])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelError(f"{model.path}: cannot read its metadata {key}: {text[:80]}") from error


def _described(tensors: Any) -> str:
    return ", ".join(f"{tensor.name} {tensor.type} {tensor.shape}" for tensor in tensors) or "none"
