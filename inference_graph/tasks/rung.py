"""One rung of any task, and how its file is opened."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Protocol, get_args

from feature_transformer.image import Frame
from foundation.errors import ModelError
from foundation.storage import sha256_file
from inference_graph.contract import Answer
from inference_graph.detector.rung import Detector, DetectorConfig
from inference_graph.tasks.engine_rung import named_engine, read_options
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


ENGINE_SUFFIX = ".json"
"""Of a rung's file that names an engine."""
_LISTENING, _READING = get_args(SpeechEngine), get_args(ReadingEngine)


def open_rung_file(config: DetectorConfig) -> Rung:
    """Open a rung of the task that its file is of.

    Manifests name ``nano.onnx``; where ``nano.json`` lies in its place, that is opened.

    Raises:
        ModelError: the file cannot be used.
        ConfigurationError: a setting that this machine does not have.
        StorageError: a file that it needs cannot be read.
    """
    named = config.weights.with_suffix(ENGINE_SUFFIX)
    if not config.weights.exists() and named.exists():
        config = replace(config, weights=named)
    if config.weights.suffix.lower() != ENGINE_SUFFIX:
        return Detector(config)
    return _engine_class(config.weights)(config)


def rung_files(weights: Path) -> tuple[Path, ...]:
    """All files of a rung: its own, and those beside it that it names, such as a grammar.

    Raises:
        ModelError: a file that names no engine.
    """
    if weights.suffix.lower() != ENGINE_SUFFIX:
        return (weights,)
    options = read_options(weights, _engine_class(weights).options)
    return (weights, *(weights.with_name(name) for name in options.beside))


def task_of(weights: Path) -> str:
    """The task that a rung's file is for, by what it is; the file of a detector is not opened.

    Raises:
        ModelError: a file that names no engine.
    """
    engine = weights.suffix.lower() == ENGINE_SUFFIX
    return _engine_class(weights).task if engine else Detector.task


def demo_for(policy: Path, weights: Path) -> str:
    """The command that makes a policy for a rung's task, into the place where it is looked for.

    Raises:
        ModelError: a file that names no engine.
    """
    task, folder = task_of(weights), policy.parent
    into = policy.name == "policy.onnx" and folder != Path("runs/demo")
    return (
        "gearshift demo"
        + (f" --task {task}" if task != Detector.task else "")
        + (f" --out {shlex.quote(str(folder))}" if into else "")
    )


def files_digest(weights: Path) -> str:
    """SHA-256 over all files of a rung, which is that of an ONNX file itself.

    Raises:
        ModelError: a file that names no engine.
        StorageError: a file cannot be read.
    """
    digests = [sha256_file(file) for file in rung_files(weights)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _engine_class(weights: Path) -> type[TextReader] | type[SpeechListener]:
    engine = named_engine(weights)
    if engine in _LISTENING:
        return SpeechListener
    if engine in _READING or not engine:
        return TextReader
    raise ModelError(
        f"{weights} names the engine {engine[:60]!r}; there are "
        f"{', '.join((*_READING, *_LISTENING))}"
    )
