"""Execution providers by name, none of which may serve before it agrees with fp32 on the CPU.

A GPU that computes in TF32, an engine that chose half precision or a driver with a fault still
answers something; only a comparison shows. Both runtimes get the same frames, and their
detections are matched box by box.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from feature_transformer.image import Frame, read_frame
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, ModelError
from inference_graph.contract import Detections
from inference_graph.detector.openvino_session import open_openvino
from inference_graph.detector.rung import Detector, DetectorConfig
from inference_graph.tasks.rung import Rung, open_rung_file

Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]

RUNTIME_PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ),
}
"""ONNX Runtime's providers behind each name, the preferred one first."""

_IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
_DRAWN_FRAMES = 12


@configuration
class Tolerance:
    """How far a provider may be from fp32 on the CPU.

    Attributes:
        check_iou: overlap that two boxes need to be the same one, 0..1.
        check_score: largest difference of their scores, 0..1.
        check_share: share of the detections that must find their like, 0..1.
        check_floor: detections with a lower score are not compared, 0..1.
        check_least: fewest detections that prove anything.
    """

    check_iou: Annotated[float, Field(ge=0, le=1)] = 0.9
    check_score: Annotated[float, Field(ge=0, le=1)] = 0.03
    check_share: Annotated[float, Field(ge=0, le=1)] = 0.98
    check_floor: Annotated[float, Field(ge=0, le=1)] = 0.05
    check_least: Annotated[int, Field(ge=1)] = 10


@dataclass(frozen=True)
class Agreement:
    """How near two runtimes are.

    Attributes:
        detections: detections compared, of both runtimes.
        matched: share of them that found their like, 0..1.
        score: largest difference of two scores matched.
        pixels: largest difference of two corners matched, in pixels of the frame.
    """

    detections: int
    matched: float
    score: float
    pixels: float


def open_detector(
    config: DetectorConfig,
    provider: str = "cpu",
    tolerance: Tolerance | None = None,
    frames: Sequence[Frame] | None = None,
) -> Rung:
    """Load a rung with a provider, and compare it with fp32 on the CPU unless it is that itself.

    Args:
        config: the rung; its ``providers`` give way to the provider's own.
        provider: cpu, cuda, tensorrt or openvino.
        tolerance: how near it must be.
        frames: what both look at, each uint8 [height, width, 3] BGR; drawn ones without it.

    Raises:
        ConfigurationError: no such provider here.
        ModelError: the weights are unusable, the provider does not run them, or it is too far
            off.
    """
    plain = dataclasses.replace(config, providers=RUNTIME_PROVIDERS["cpu"])
    if provider == "cpu":
        return open_rung_file(plain)
    if provider == "openvino":
        opened = open_openvino(config.weights, config.threads, config.sha256, config.trust)
        chosen = Detector(config, opened)
    elif provider in RUNTIME_PROVIDERS:
        chosen = Detector(dataclasses.replace(config, providers=RUNTIME_PROVIDERS[provider]))
        running = chosen.running_providers[0]
        if running != RUNTIME_PROVIDERS[provider][0]:
            raise ModelError(
                f"{config.weights} was to run on {provider}, but ONNX Runtime fell back to "
                f"{running}; install onnxruntime-gpu with the CUDA libraries it names"
            )
    else:
        known = ", ".join((*RUNTIME_PROVIDERS, "openvino"))
        raise ConfigurationError(f"provider {provider!r} is none of {known}")
    check_accuracy(chosen, Detector(plain), frames or drawn_frames(), tolerance, provider)
    return chosen


def check_accuracy(
    chosen: Detector,
    reference: Detector,
    frames: Sequence[Frame],
    tolerance: Tolerance | None = None,
    provider: str = "this provider",
) -> Agreement:
    """Compare a detector with the same weights in fp32 on the CPU.

    Raises:
        ModelError: it is too far off, or found too little to compare; the message states how far.
    """
    tolerance = tolerance or Tolerance()
    pairs = [
        (reference.detect(frame).detections, chosen.detect(frame).detections) for frame in frames
    ]
    agreement = agree(pairs, tolerance)
    weights = reference.config.weights
    if agreement.detections < tolerance.check_least:
        raise ModelError(
            f"{weights} sees {agreement.detections} objects on the {len(frames)} frames of the "
            f"check, and {tolerance.check_least} are needed; give frames with objects "
            "(check_frames)"
        )
    if agreement.matched < tolerance.check_share:
        raise ModelError(
            f"{weights} on {provider} differs from fp32 on the CPU: {agreement.matched:.1%} of "
            f"{agreement.detections} detections agree to an overlap of {tolerance.check_iou:g} "
            f"and a score within {tolerance.check_score:g}, {tolerance.check_share:.1%} must; "
            f"where boxes meet, scores are up to {agreement.score:.3f} and corners up to "
            f"{agreement.pixels:.1f} px apart; compare on frames as this detector meets them "
            "(check_frames), or use another provider or precision"
        )
    return agreement


def agree(
    pairs: Sequence[tuple[Detections, Detections]], tolerance: Tolerance | None = None
) -> Agreement:
    """Match the detections of two runtimes, image by image.

    A detection is matched by one of its class that overlaps it by at least ``check_iou`` and
    whose score differs by at most ``check_score``, best scores first and each used once. Those
    within ``check_score`` of the floor may lie below it on the other side, so only what is above
    the floor by as much is asked for.

    Args:
        pairs: for each frame what the reference saw and what the other saw.
        tolerance: what counts as the same.
    """
    tolerance = tolerance or Tolerance()
    compared = matched = 0
    score = pixels = 0.0
    for pair in pairs:
        for one, other in (pair, pair[::-1]):
            asked = one.at_least(tolerance.check_floor + tolerance.check_score)
            compared += len(asked)
            for index, like in _matches(asked, other, tolerance.check_iou):
                difference = abs(float(asked.scores[index]) - float(other.scores[like]))
                corners = np.abs(asked.boxes[index] - other.boxes[like])
                score, pixels = max(score, difference), max(pixels, float(corners.max()))
                matched += difference <= tolerance.check_score
    return Agreement(compared, matched / compared if compared else 0.0, score, pixels)


def drawn_frames(count: int = _DRAWN_FRAMES) -> list[Frame]:
    """Frames with coloured figures on a gradient, always the same.

    Returns:
        uint8 [480, 640, 3] each, BGR.
    """
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        top, bottom = generator.uniform(40, 220, 2).tolist()
        rows = np.linspace(top, bottom, 480)[:, np.newaxis, np.newaxis]
        frame = np.ascontiguousarray(np.broadcast_to(rows, (480, 640, 3)).astype(np.uint8))
        for _ in range(int(generator.integers(6, 24))):
            x, y = (int(generator.integers(0, limit)) for limit in (640, 480))
            width, height = (int(side) for side in generator.integers(12, 140, 2))
            colour = tuple(int(part) for part in generator.integers(0, 256, 3))
            cv2.rectangle(frame, (x, y), (x + width, y + height), colour, cv2.FILLED)
            cv2.ellipse(
                frame, (x + width // 2, y), (width // 2, height // 3), 0, 0, 360, colour[::-1], -1
            )
            for wheel in (x + width // 5, x + 4 * width // 5):
                cv2.circle(frame, (wheel, y + height), max(width // 8, 2), (20, 20, 20), -1)
        frames.append(frame)
    return frames


def frames_of(folder: Path, limit: int = 64) -> list[Frame]:
    """The first images of a folder by name, decoded.

    Raises:
        ConfigurationError: it is no folder with images.
        ImageError: one cannot be decoded.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
    except OSError as error:
        raise ConfigurationError(f"cannot read the folder {folder}: {error.strerror}") from error
    if not paths:
        raise ConfigurationError(f"{folder} holds no jpeg, png, webp or bmp; give another folder")
    return [read_frame(path) for path in paths[:limit]]


def _matches(one: Detections, other: Detections, iou: float) -> list[tuple[int, int]]:
    """Pairs of indices, greedily by the first's scores, each of the second at most once."""
    overlaps = _overlaps(one.boxes, other.boxes)
    overlaps[one.labels[:, np.newaxis] != other.labels] = 0
    pairs = []
    for index in range(len(one)):
        if not len(other):
            break
        like = int(overlaps[index].argmax())
        if overlaps[index, like] >= iou:
            pairs.append((index, like))
            overlaps[:, like] = -1
    return pairs


def _overlaps(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Intersection over union of every box with every other: float64 [n, m]."""
    first, second = one.astype(np.float64)[:, np.newaxis], other.astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
