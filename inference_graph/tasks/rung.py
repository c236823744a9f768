"""One rung of any task, and how its file is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from feature_transformer.image import Frame
from inference_graph.contract import Answer
from inference_graph.detector.rung import Detector, DetectorConfig
from inference_graph.tasks.engine_rung import named_engine
from inference_graph.tasks.ocr.reader import TextReader
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


_LISTEN = ("pocketsphinx", "whisper")
"""How the names of engines begin that need a recording."""


def open_rung_file(config: DetectorConfig) -> Rung:
    """Open a rung of the task that its file is of.

    Manifests name ``nano.onnx``; where ``nano.json`` lies in its place, that is opened.

    Raises:
        ModelError: the file cannot be used.
        ConfigurationError: a setting that this machine does not have.
    """
    engine = config.weights.with_suffix(".json")
    if not config.weights.exists() and engine.exists():
        config = replace(config, weights=engine)
    if config.weights.suffix.lower() != ".json":
        return Detector(config)
    if named_engine(config.weights).startswith(_LISTEN):
        return SpeechListener(config)
    return TextReader(config)
