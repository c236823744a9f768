"""A look at a few images before the expensive stages: does the heaviest rung find anything there?

Where it finds next to nothing, every rung's quality is close to zero, no policy can be learned,
and profiling the whole data set would only show it later.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.data.classes import Classes, match_dataset
from components.data.dataset import load_dataset
from components.evaluation.average_precision import SeenDetections
from components.parallel import Progress, no_progress, ordered_map
from components.profiling.rungs import InferenceConfig, open_rung
from components.tasks import task_named
from foundation.configuration import Share, configuration
from foundation.errors import InvalidInput
from foundation.storage import atomic_path
from inference_graph.contract import REFERENCE


@configuration
class SpotCheckConfig(InferenceConfig):
    """What is looked at; the other attributes are InferenceConfig's.

    Attributes:
        images: images with boxes that are looked at, drawn at random.
        min_map: least mAP50-95 of the heaviest rung on them; 0 lets everything pass.
        seed: of the draw.
    """

    images: Annotated[int, Field(ge=1)] = 48
    min_map: Share = 0.02
    seed: int = 0


@dataclass(frozen=True)
class SpotCheckSummary:
    """What was found.

    Attributes:
        images: images looked at.
        map: mAP50-95 of the heaviest rung on them.
        known_share: share of the data set's boxes whose class the ladder knows, 0..1.
        unknown: names of the categories that it does not know.
    """

    images: int
    map: float
    known_share: float
    unknown: tuple[str, ...]


def spot_check(
    dataset: Path,
    weights: Path,
    out: Path,
    config: SpotCheckConfig | None = None,
    progress: Progress = no_progress,
) -> SpotCheckSummary:
    """Measure the heaviest rung on a few images; writes the summary as JSON.

    Args:
        dataset: canonical data set folder.
        weights: ONNX file of the heaviest rung.
        out: file to write.
        config: what is looked at.
        progress: called with images done and in all.

    Raises:
        InvalidInput: the rung finds next to nothing; states the share of boxes that it knows.
        AnnotationError: the ladder knows no category of the data set.
        ModelError: the weights cannot be used.
    """
    config = config or SpotCheckConfig()
    data = load_dataset(dataset)
    rung = open_rung(REFERENCE, weights, config)
    classes = Classes.of(rung)
    match = match_dataset(data, classes)
    known = np.isin(data.category_ids, list(match.labels)) & ~data.is_crowd
    with_boxes = [index for index in range(len(data)) if known[data.annotations_of(index)].any()]
    if not with_boxes:
        raise InvalidInput(f"{dataset}: no box is of a category that the ladder knows")
    drawn = np.random.default_rng(config.seed).permutation(with_boxes)[: config.images]
    chosen = data.subset(int(data.image_ids[index]) for index in sorted(drawn))
    found = []
    for done, frame in enumerate(ordered_map(chosen.read, range(len(chosen)), workers=1)):
        found.append(rung.detect(frame).detections)
        progress(done + 1, len(chosen))
    seen = SeenDetections.of(found, classes.category_ids)
    figure = task_named(data.task).score(chosen, [seen], classes).accuracy(0)
    summary = SpotCheckSummary(
        len(chosen), round(float(figure), 4), round(float(known.mean()), 4), match.unknown
    )
    with atomic_path(out) as partial:
        partial.write_text(json.dumps(asdict(summary), indent=1) + "\n", encoding="utf-8")
    if summary.map < config.min_map:
        raise InvalidInput(_refusal(summary, config))
    return summary


def _refusal(summary: SpotCheckSummary, config: SpotCheckConfig) -> str:
    names = ", ".join(summary.unknown[:6]) + (", ..." if len(summary.unknown) > 6 else "")
    share = f"the ladder knows the classes of {summary.known_share:.0%} of the boxes"
    return (
        f"{REFERENCE} finds next to nothing: mAP50-95 {summary.map:.3f} on {summary.images} images "
        f"(at least {config.min_map:g} is needed); {share}{f', not {names}' if names else ''}; "
        "give a ladder that was trained on such images (--weights coco knows photographs), or set "
        "spot_check.min_map=0"
    )
