"""One rung of the task ``ocr``: an engine behind the interface that every rung has."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
from pydantic import TypeAdapter, ValidationError

from feature_transformer.image import Frame, check_frame
from foundation.errors import ModelError
from foundation.storage import sha256_file
from inference_graph.contract import Answer, Detections
from inference_graph.detector.rung import DetectorConfig
from inference_graph.tasks.ocr.engines import EngineOptions, Region, open_engine

OCR = "ocr"


class TextReader:
    """A loaded engine; :meth:`detect` may be called from several threads, one of which reads.

    Its file is a few lines of JSON (``EngineOptions``) that name an engine, which a package brings
    with its model. The digest is over that file and the models. Attributes as in ``Rung``.
    """

    task: ClassVar[str] = OCR
    reads: ClassVar[bool] = True

    def __init__(self, config: DetectorConfig) -> None:
        """Open the engine and read once.

        Args:
            config: the rung's file, its place in the ladder, threads, and the digest it must have.

        Raises:
            ModelError: a file that names no engine, another digest, or a package is missing.
        """
        self.config = config
        options = _options(config)
        self._longest = options.longest
        self._engine = open_engine(options, config.threads)
        self._reading = threading.Lock()
        digest = hashlib.sha256()
        for file in (config.weights, *self._engine.models):
            digest.update(sha256_file(file).encode())
        self.sha256 = digest.hexdigest()
        if config.sha256 is not None and config.sha256 != self.sha256:
            raise ModelError(
                f"{config.weights} and its models have SHA-256 {self.sha256[:12]}, not "
                f"{config.sha256[:12]}; give the digest of this ladder"
            )
        self.revision = self.sha256[:12]
        self.class_names: tuple[str, ...] = ("text",)
        self.category_ids: tuple[int, ...] = (1,)
        self.input_size = (self._longest, self._longest)
        self.batches = False
        self.detect(np.full((64, 64, 3), 255, np.uint8))

    @property
    def running_providers(self) -> tuple[str, ...]:
        """Execution providers that are really used."""
        return ("CPUExecutionProvider",)

    def detect(self, frame: Frame) -> Answer:
        """Read an image.

        Args:
            frame: uint8 [height, width, 3], BGR.

        Returns:
            Lines of text by falling confidence, and the time each stage took.

        Raises:
            ImageError: the array is no frame.
            ModelError: the engine failed.
        """
        check_frame(frame)
        start = time.perf_counter()
        scale = min(1.0, self._longest / max(frame.shape[:2]))
        small = frame
        if scale < 1:
            small = np.asarray(
                cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        prepared = time.perf_counter()
        try:
            with self._reading:
                regions = self._engine.read(small)
        except (RuntimeError, ValueError, cv2.error) as error:
            raise ModelError(f"{self.config.rung} failed to read an image: {error}") from error
        read = time.perf_counter()
        found = _detections(regions, scale)
        seconds = {
            "preprocess": prepared - start,
            "inference": read - prepared,
            "postprocess": time.perf_counter() - read,
        }
        milliseconds = {stage: spent * 1e3 for stage, spent in seconds.items()}
        return Answer(found, milliseconds, self.config.rung, self.revision)

    def detect_many(self, frames: Sequence[Frame], concurrent: bool = False) -> list[Answer]:
        """Read several images, one after the other."""
        return [self.detect(frame) for frame in frames]


def _options(config: DetectorConfig) -> EngineOptions:
    try:
        content = json.loads(config.weights.read_text(encoding="utf-8"))
        return TypeAdapter(EngineOptions).validate_python(content)
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
        raise ModelError(
            f"{config.weights} names no engine that reads ({reason}); give JSON such as "
            '{"engine": "tesseract"}'
        ) from error


def _detections(regions: Sequence[Region], scale: float) -> Detections:
    ordered = sorted(regions, key=lambda region: -region.score)
    boxes = np.array([region.box for region in ordered], np.float32).reshape(-1, 4)
    return Detections(
        boxes / np.float32(scale),
        np.clip(np.array([region.score for region in ordered], np.float32), 0, 1),
        np.zeros(len(ordered), np.int32),
        tuple(region.text for region in ordered),
    )
