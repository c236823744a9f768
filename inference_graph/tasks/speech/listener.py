"""One rung of the task ``speech``: an engine that writes down what is said in a recording."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from feature_transformer.image import Frame, check_frame
from feature_transformer.sound import COLUMNS_PER_SECOND, ROWS, SAMPLE_RATE, frame_of_sound
from inference_graph.tasks.engine_rung import Engine, EngineRung, EngineSettings
from inference_graph.tasks.speech.engines import ListenerOptions, open_engine

SPEECH = "speech"


class SpeechListener(EngineRung):
    """A rung that listens; see :class:`EngineRung`. A region is a word, from x1 to x2 in time."""

    task: ClassVar[str] = SPEECH
    options: ClassVar[type[EngineSettings]] = ListenerOptions
    names: ClassVar[tuple[str, ...]] = ("word", "word said again")

    def _open(self, options: ListenerOptions) -> Engine:
        self._columns = int(options.longest_seconds * COLUMNS_PER_SECOND)
        return open_engine(options, self.config.weights.parent, self.config.threads)

    def _input_size(self, options: ListenerOptions) -> tuple[int, int]:
        return ROWS, self._columns

    def _blank(self) -> Frame:
        return frame_of_sound(np.ones(SAMPLE_RATE, np.int16))

    def _prepared(self, frame: Frame) -> tuple[Frame, float]:
        check_frame(frame, sound=True)
        return frame[:, : self._columns], 1.0
