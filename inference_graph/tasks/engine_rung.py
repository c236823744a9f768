"""A rung whose model a package brings: an engine behind the interface that every rung has."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import cv2
import numpy as np
from pydantic import TypeAdapter, ValidationError

from feature_transformer.image import Frame
from foundation.errors import ModelError
from foundation.storage import sha256_file
from inference_graph.contract import Answer, Detections
from inference_graph.detector.rung import DetectorConfig


class Region(NamedTuple):
    """A line or word: corners x1, y1, x2, y2 in pixels, confidence 0..1, what it reads, class."""

    box: tuple[float, float, float, float]
    score: float
    text: str
    label: int = 0


class EngineSettings(Protocol):
    """The content of a rung's file."""

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of the files beside it that it needs."""


class Engine(Protocol):
    """Reads one input at a time.

    Attributes:
        models: the files that its answers depend on.
    """

    models: tuple[Path, ...]

    def read(self, frame: Frame) -> list[Region]:
        """The regions of a prepared frame, uint8 [height, width, 3]."""


class EngineRung(ABC):
    """A loaded engine; :meth:`detect` may be called from several threads, one of which reads.

    Its file is a few lines of JSON that name an engine, which a package brings with its model. The
    digest is over that file and the models. Attributes as in ``Rung``.
    """

    task: ClassVar[str]
    reads: ClassVar[bool] = True
    options: ClassVar[type[EngineSettings]]
    """What the rung's file says."""
    names: ClassVar[tuple[str, ...]]
    """Of the classes of its regions."""

    def __init__(self, config: DetectorConfig) -> None:
        """Open the engine and read once.

        Args:
            config: the rung's file, its place in the ladder, threads, and the digest it must have.

        Raises:
            ModelError: a file that names no engine, is not signed as it must be, or has another
                digest; or a package is missing.
            ConfigurationError: an unusable trust file.
            StorageError: a file that it needs cannot be read.
        """
        self.config = config
        options = read_options(config.weights, type(self).options)
        if config.trust is not None:
            from foundation.signing.trust import check_signed

            for name in (config.weights.name, *options.beside):
                file = config.weights.with_name(name)
                check_signed(config.trust, file, sha256_file(file))
        self._engine = self._open(options)
        self._reading = threading.Lock()
        digest = hashlib.sha256()
        for file in (config.weights, *self._engine.models):
            digest.update(sha256_file(file).encode())
        self.sha256 = digest.hexdigest()
        if config.sha256 is not None and config.sha256 != self.sha256:
            raise ModelError(
                f"{config.weights} and its models have SHA-256 {self.sha256[:12]}, not "
                f"{config.sha256[:12]}; give the digest of this ladder, or install the packages "
                "that it was made with"
            )
        self.revision = self.sha256[:12]
        self.class_names = self.names
        self.category_ids = tuple(range(1, len(self.names) + 1))
        self.input_size = self._input_size(options)
        self.batches = False
        self.detect(self._blank())

    @abstractmethod
    def _open(self, options: Any) -> Engine:
        """Open the engine that the options name."""

    @abstractmethod
    def _input_size(self, options: Any) -> tuple[int, int]:
        """See ``Rung.input_size``."""

    @abstractmethod
    def _blank(self) -> Frame:
        """A frame without anything to read."""

    @abstractmethod
    def _prepared(self, frame: Frame) -> tuple[Frame, float]:
        """What the engine sees of a frame, and its scale; raises ImageError for another kind."""

    @property
    def running_providers(self) -> tuple[str, ...]:
        """Execution providers that are really used."""
        return ("CPUExecutionProvider",)

    def detect(self, frame: Frame) -> Answer:
        """Read a frame.

        Args:
            frame: uint8 [height, width, 3], of the kind that the task reads.

        Returns:
            Regions by falling confidence, and the time each stage took.

        Raises:
            ImageError: the array is no frame of that kind.
            ModelError: the engine failed.
        """
        start = time.perf_counter()
        prepared, scale = self._prepared(frame)
        begun = time.perf_counter()
        try:
            with self._reading:
                regions = self._engine.read(prepared)
        except (RuntimeError, ValueError, cv2.error) as error:
            raise ModelError(f"{self.config.rung} failed to read its input: {error}") from error
        read = time.perf_counter()
        found = _detections(regions, scale)
        seconds = {
            "preprocess": begun - start,
            "inference": read - begun,
            "postprocess": time.perf_counter() - read,
        }
        milliseconds = {stage: spent * 1e3 for stage, spent in seconds.items()}
        return Answer(found, milliseconds, self.config.rung, self.revision)

    def detect_many(self, frames: Sequence[Frame], concurrent: bool = False) -> list[Answer]:
        """Read several frames, one after the other."""
        return [self.detect(frame) for frame in frames]


def read_options(file: Path, options: type[EngineSettings]) -> Any:
    """What a rung's file says, as the options of its task.

    Raises:
        ModelError: it names no engine of the task, or something else in it is wrong.
    """
    known: TypeAdapter[Any] = TypeAdapter(options)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return known.validate_python(content)
    except (OSError, ValueError, RecursionError) as error:
        reason = type(error).__name__
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
        example = {"engine": known.json_schema()["properties"]["engine"]["enum"][0]}
        raise ModelError(
            f"{file} names no engine ({reason}); give JSON such as {json.dumps(example)}"
        ) from error


def named_engine(file: Path) -> str:
    """The engine that a rung's file names; empty where it names none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(content.get("engine", "")) if isinstance(content, dict) else ""


def _detections(regions: Sequence[Region], scale: float) -> Detections:
    ordered = sorted(regions, key=lambda region: -region.score)
    boxes = np.array([region.box for region in ordered], np.float32).reshape(-1, 4)
    return Detections(
        boxes / np.float32(scale),
        np.clip(np.array([region.score for region in ordered], np.float32), 0, 1),
        np.array([region.label for region in ordered], np.int32),
        tuple(region.text for region in ordered),
    )


def package_folder(name: str) -> Path:
    """Folder of an installed package, which is not imported; raises ImportError without it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"no module named {name!r}")
    return Path(next(iter(spec.submodule_search_locations)))
