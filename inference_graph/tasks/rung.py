"""One rung of any task, and how its file is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Protocol, get_args

from feature_transformer.image import Frame
from foundation.errors import ModelError
from inference_graph.contract import Answer
from inference_graph.detector.rung import Detector, DetectorConfig
from inference_graph.tasks.engine_rung import named_engine
from inference_graph.tasks.ocr.engines import ReadingEngine
from inference_graph.tasks.ocr.reader import TextReader
from inference_graph.tasks.speech.engines import SpeechEngine
from inference_graph.tasks.speech.listener import SpeechListener


class Rung(Protocol):
    """A loaded rung, as services and stages use it.

    Attributes:
        task: name of its task.
        reads: whether its answers carry texts.
        config: what it was made from.
        class_names: names of its classes, in class order.
        category_ids: id of every class.
        input_size: (height, width) beyond which its input is scaled down.
        batches: whether it takes several inputs at once.
        revision: first 12 hexadecimal digits of the SHA-256 of its model.
        sha256: the whole digest.
    """

    task: ClassVar[str]
    reads: ClassVar[bool]
    config: DetectorConfig
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    input_size: tuple[int, int]
    batches: bool
    revision: str
    sha256: str

    @property
    def running_providers(self) -> tuple[str, ...]:
        """Execution providers that are really used."""

    def detect(self, frame: Frame) -> Answer:
        """Answer for one frame, uint8 [height, width, 3], BGR."""

    def detect_many(self, frames: Sequence[Frame], concurrent: bool = False) -> list[Answer]:
        """Answer for several frames; see ``Detector.detect_many``."""


_LISTENING, _READING = get_args(SpeechEngine), get_args(ReadingEngine)


def open_rung_file(config: DetectorConfig) -> Rung:
    """Open a rung of the task that its file is of.

    Manifests name ``nano.onnx``; where ``nano.json`` lies in its place, that is opened.

    Raises:
        ModelError: the file cannot be used.
        ConfigurationError: a setting that this machine does not have.
    """
    named = config.weights.with_suffix(".json")
    if not config.weights.exists() and named.exists():
        config = replace(config, weights=named)
    if config.weights.suffix.lower() != ".json":
        return Detector(config)
    engine = named_engine(config.weights)
    if engine in _LISTENING:
        return SpeechListener(config)
    if engine in _READING or not engine:
        return TextReader(config)
    raise ModelError(
        f"{config.weights} names the engine {engine[:60]!r}; there are "
        f"{', '.join((*_READING, *_LISTENING))}"
    )
