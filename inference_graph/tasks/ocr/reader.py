"""One rung of the task ``ocr``: an engine that reads the text of an image."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from feature_transformer.image import Frame, check_frame
from inference_graph.tasks.engine_rung import Engine, EngineRung, EngineSettings
from inference_graph.tasks.ocr.engines import EngineOptions, open_engine

OCR = "ocr"


class TextReader(EngineRung):
    """A rung that reads text; see :class:`EngineRung`."""

    task: ClassVar[str] = OCR
    options: ClassVar[type[EngineSettings]] = EngineOptions
    names: ClassVar[tuple[str, ...]] = ("text",)

    def _open(self, options: EngineOptions) -> Engine:
        self._longest = options.longest
        return open_engine(options, self.config.threads)

    def _input_size(self, options: EngineOptions) -> tuple[int, int]:
        return options.longest, options.longest

    def _blank(self) -> Frame:
        return np.full((64, 64, 3), 255, np.uint8)

    def _prepared(self, frame: Frame) -> tuple[Frame, float]:
        check_frame(frame, sound=False)
        scale = min(1.0, self._longest / max(frame.shape[:2]))
        if scale == 1:
            return frame, scale
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8), scale
