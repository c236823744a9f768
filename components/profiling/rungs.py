"""The detectors of a ladder opened for measuring, and the proof that they are siblings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import ConfigurationError, ModelError
from inference_graph.contract import LADDER
from inference_graph.detector import DetectorConfig
from inference_graph.tasks.rung import Rung, open_rung_file


@dataclass(frozen=True)
class InferenceConfig:
    """How detectors run while they are measured: exactly as they will serve.

    Attributes:
        confidence: detections below this score are not kept (0 to 1).
        iou: overlap above which non-maximum suppression removes the weaker box (0 to 1).
        max_detections: detections kept per image.
        threads: threads of one inference.
        providers: ONNX Runtime execution providers, the preferred one first.
    """

    confidence: float = DetectorConfig.confidence
    iou: float = DetectorConfig.iou
    max_detections: int = DetectorConfig.max_detections
    threads: int = DetectorConfig.threads
    providers: tuple[str, ...] = DetectorConfig.providers


def open_rung(rung: str, weights: Path, config: InferenceConfig) -> Rung:
    """Open one rung of any task.

    Raises ModelError when the weights cannot be used and ConfigurationError for settings out of
    range, or a rung that the ladder does not have.
    """
    return open_rung_file(
        DetectorConfig(
            weights=Path(weights),
            rung=rung,
            confidence=config.confidence,
            iou=config.iou,
            max_detections=config.max_detections,
            threads=config.threads,
            providers=tuple(config.providers),
        )
    )


def open_ladder(ladder: Mapping[str, Path], config: InferenceConfig) -> dict[str, Rung]:
    """Open all rungs, in the ladder's order, and check that they are siblings.

    Raises:
        ConfigurationError: a rung is missing or there is one too many.
        ModelError: weights cannot be used, or their classes differ.
    """
    if set(ladder) != set(LADDER):
        raise ConfigurationError(
            f"the ladder has the rungs {', '.join(ladder) or '(none)'}; "
            f"give weights for {', '.join(LADDER)}"
        )
    detectors = {rung: open_rung(rung, ladder[rung], config) for rung in LADDER}
    check_siblings(detectors)
    return detectors


def check_siblings(detectors: Mapping[str, Rung]) -> None:
    """Raise ModelError when the detectors do not know the same classes in the same order.

    Routing swaps one rung for another, so a label has to mean the same on all of them.
    """
    rungs = list(detectors)
    for rung in rungs[1:]:
        first, other = detectors[rungs[0]], detectors[rung]
        if (first.class_names, first.category_ids) == (other.class_names, other.category_ids):
            continue
        counts = f"{len(other.class_names)} classes against {len(first.class_names)}"
        if len(first.class_names) == len(other.class_names):
            counts = "other class names or category ids"
        raise ModelError(
            f"{other.config.weights}: {rung} has {counts} of its sibling {rungs[0]} "
            f"({first.config.weights}); give rungs that were trained on the same classes"
        )
