"""A detector's words on the wire: its tensors in V2, its JSON in V1, and its facts.

V2 request: ``image``, UINT8 [height, width, 3] in BGR or BYTES [1] with an encoded image, and
optionally the parameter ``frame_id``. V2 answer: ``boxes`` FP32 [n, 4], corners in pixels of the
image sent, ``scores`` FP32 [n], ``labels`` INT32 [n]; its parameters name the rung (``variant``),
its ``revision`` and the milliseconds of each stage (as text over gRPC, whose parameters know no
fractions). A rung that reads gives ``texts`` BYTES [n] too.

V2 has no place for what a model's labels mean, so a detector gives that as tensors too, but only
to a request that names them as its ``outputs``: ``class_names``, ``category_ids``, ``input_size``
and ``revision``. A request for nothing else needs no image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_transformer.image_forms import IMAGE, IMAGE_FACTS
from foundation.errors import InvalidInput, ModelError
from inference_graph.contract import Answer, Detections
from inference_graph.detections import DetectionFilter, detections_json
from inference_graph.tasks.ocr.reading import text_of
from serving_kit.tensors import BYTES, Parameter, Tensor, TensorFacts, V2Answer

__all__ = [
    "BOXES",
    "FACT_NAMES",
    "FRAME_ID",
    "IMAGE",
    "INPUTS",
    "LABELS",
    "OUTPUTS",
    "SCORES",
    "STAGES",
    "TEXTS",
    "DetectorFacts",
    "facts_answer",
    "read_answer",
    "read_facts",
    "v1_prediction",
    "v2_answer",
]

BOXES, SCORES, LABELS, TEXTS = "boxes", "scores", "labels", "texts"
CLASS_NAMES, CATEGORY_IDS = "class_names", "category_ids"
INPUT_SIZE, REVISION = "input_size", "revision"
FRAME_ID, VARIANT = "frame_id", "variant"
STAGES = ("decode", "preprocess", "inference", "postprocess", "queue")
FACT_NAMES = frozenset((CLASS_NAMES, CATEGORY_IDS, INPUT_SIZE, REVISION))

INPUTS = IMAGE_FACTS
OUTPUTS = (
    TensorFacts(BOXES, "FP32", (-1, 4)),
    TensorFacts(SCORES, "FP32", (-1,)),
    TensorFacts(LABELS, "INT32", (-1,)),
    TensorFacts(TEXTS, BYTES, (-1,)),
    TensorFacts(CLASS_NAMES, BYTES, (-1,)),
    TensorFacts(CATEGORY_IDS, "INT32", (-1,)),
    TensorFacts(INPUT_SIZE, "INT32", (2,)),
    TensorFacts(REVISION, BYTES, (1,)),
)


@dataclass(frozen=True)
class DetectorFacts:
    """What a detector's numbers mean.

    Attributes:
        class_names: name of every class, in the order of the labels.
        category_ids: COCO category id of every class.
        input_size: (height, width) its network sees.
        revision: first 12 hexadecimal digits of the SHA-256 of its weights.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    input_size: tuple[int, int]
    revision: str


def v1_prediction(
    answer: Answer, facts: DetectorFacts, wanted: DetectionFilter | None = None
) -> dict[str, Any]:
    """One answer as V1's JSON: ``detections`` for clients, and all that was found in columns.

    Args:
        answer: what the detector saw.
        facts: what its numbers mean.
        wanted: what ``detections`` holds.
    """
    found = answer.detections
    labels = found.labels.tolist()
    kept = (wanted or DetectionFilter()).keep(found, facts.class_names)
    return {
        "detections": detections_json(kept, facts.class_names, facts.category_ids),
        BOXES: found.boxes.tolist(),
        SCORES: found.scores.tolist(),
        LABELS: labels,
        **({} if found.texts is None else {TEXTS: list(found.texts), "text": text_of(found)}),
        "categories": [facts.category_ids[label] for label in labels],
        "names": [facts.class_names[label] for label in labels],
        VARIANT: answer.rung,
        REVISION: answer.revision,
        "milliseconds": dict(answer.milliseconds),
    }


def v2_answer(
    answer: Answer, facts: DetectorFacts, wanted: tuple[str, ...], frame_id: Parameter | None
) -> V2Answer:
    """One answer as V2's tensors.

    Args:
        answer: what the detector saw.
        facts: what its numbers mean.
        wanted: tensors asked for; boxes, scores and labels without any.
        frame_id: what the request called its frame.

    Raises:
        InvalidInput: a tensor that this service does not give.
    """
    found = answer.detections
    tensors = {
        BOXES: Tensor.of(BOXES, found.boxes),
        SCORES: Tensor.of(SCORES, found.scores),
        LABELS: Tensor.of(LABELS, found.labels),
    }
    if found.texts is not None:
        tensors[TEXTS] = Tensor.of_text(TEXTS, found.texts)
    parameters: dict[str, Parameter] = {VARIANT: answer.rung, REVISION: answer.revision}
    parameters |= {f"{stage}_ms": spent for stage, spent in answer.milliseconds.items()}
    if frame_id is not None:
        parameters[FRAME_ID] = frame_id
    if wanted:
        tensors = _chosen(tensors | _fact_tensors(facts), wanted)
    return V2Answer(tuple(tensors.values()), parameters)


def facts_answer(facts: DetectorFacts, wanted: tuple[str, ...]) -> V2Answer:
    """The facts asked for, as V2's tensors.

    Raises:
        InvalidInput: a tensor that this service does not give.
    """
    return V2Answer(tuple(_chosen(_fact_tensors(facts), wanted).values()))


def read_answer(
    tensors: Mapping[str, Tensor], parameters: Mapping[str, Parameter], rung: str
) -> Answer:
    """An answer from V2's tensors.

    Raises:
        ModelError: tensors are missing or do not belong together.
    """
    try:
        boxes, scores, labels = (tensors[name].array() for name in (BOXES, SCORES, LABELS))
        milliseconds = {
            stage: float(parameters[f"{stage}_ms"])
            for stage in STAGES
            if f"{stage}_ms" in parameters
        }
        variant, revision = str(parameters[VARIANT]), str(parameters[REVISION])
        texts = None
        if TEXTS in tensors:
            texts = tuple(text.decode() for text in _elements(tensors[TEXTS]))
    except (KeyError, ValueError, InvalidInput) as error:
        raise ModelError(f"the service of {rung} answers as no detector does: {error}") from error
    count = len(scores)
    whole = boxes.shape == (count, 4) and labels.shape == (count,)
    if not whole or len(texts or scores) != count or variant != rung:
        raise ModelError(
            f"the service of {rung} is {variant!r} and answers boxes {list(boxes.shape)}, scores "
            f"[{count}] and labels {list(labels.shape)}; check its address"
        )
    detections = Detections(
        boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int32), texts
    )
    return Answer(detections, milliseconds, rung, revision)


def read_facts(tensors: Mapping[str, Tensor], rung: str) -> DetectorFacts:
    """Facts from V2's tensors.

    Raises:
        ModelError: tensors are missing or do not belong together.
    """
    try:
        names = tuple(name.decode() for name in _elements(tensors[CLASS_NAMES]))
        ids = tuple(int(number) for number in tensors[CATEGORY_IDS].array())
        height, width = (int(side) for side in tensors[INPUT_SIZE].array())
        (revision,) = _elements(tensors[REVISION])
    except (KeyError, ValueError, InvalidInput) as error:
        raise ModelError(f"the service of {rung} sends no facts of a detector: {error}") from error
    if len(names) != len(ids) or height < 1 or width < 1:
        raise ModelError(
            f"the service of {rung} names {len(names)} classes with {len(ids)} ids and an "
            f"input of {height}x{width} pixels; check its address"
        )
    return DetectorFacts(names, ids, (height, width), revision.decode())


def _fact_tensors(facts: DetectorFacts) -> dict[str, Tensor]:
    return {
        CLASS_NAMES: Tensor.of_text(CLASS_NAMES, facts.class_names),
        CATEGORY_IDS: Tensor.of(CATEGORY_IDS, np.array(facts.category_ids, np.int32)),
        INPUT_SIZE: Tensor.of(INPUT_SIZE, np.array(facts.input_size, np.int32)),
        REVISION: Tensor.of_text(REVISION, (facts.revision,)),
    }


def _chosen(tensors: Mapping[str, Tensor], wanted: tuple[str, ...]) -> dict[str, Tensor]:
    unknown = [name for name in wanted if name not in tensors]
    if unknown:
        given = ", ".join(facts.name for facts in OUTPUTS)
        raise InvalidInput(f"there is no output {unknown[0][:60]!r}; ask for {given}")
    return {name: tensors[name] for name in wanted}


def _elements(tensor: Tensor) -> tuple[bytes, ...]:
    if not isinstance(tensor.values, tuple):
        raise ValueError(f"{tensor.name} is {tensor.datatype}")
    return tensor.values
