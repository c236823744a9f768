"""What a logged request and its logged answer hold: V1 bodies as facts for the log's columns."""

from __future__ import annotations

import binascii
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from feature_transformer.image import read_header
from foundation.errors import ImageError, InvalidInput
from inference_graph.contract import LADDER, Detections

_INSTANCES = 64
_DETECTIONS = 10_000
_HEADER_TEXT = 256 * 1024
"""Characters of base64 in which an image's header is sought."""
_TEXT = 100


@dataclass(frozen=True)
class SentImageFacts:
    """What is kept of an image that was sent.

    Attributes:
        width: in pixels; None where its header does not give it.
        height: likewise.
        image_bytes: its length.
    """

    width: int | None
    height: int | None
    image_bytes: int | None


@dataclass(frozen=True)
class RequestFacts:
    """What is kept of a request; the pixels are not.

    Attributes:
        images: one for each instance.
        routed: whether it carries the router's decision.
        rung: the rung that was chosen; empty without a decision.
        shadow: whether the reference was to be run too.
        probabilities: one per rung; empty without a decision.
        load_ms: expected wait of every rung; empty where it was not sent.
        latency_weight: operating point; NaN where it was not sent.
        policy_revision: of the policy that decided.
        digest: SHA-256 of the body: rungs asked together got the same one.
    """

    images: tuple[SentImageFacts, ...]
    routed: bool
    rung: str
    shadow: bool
    probabilities: tuple[float, ...]
    load_ms: tuple[float, ...]
    latency_weight: float
    policy_revision: str
    digest: bytes


@dataclass(frozen=True)
class AnswerFacts:
    """One prediction.

    Attributes:
        rung: which rung answered.
        revision: of its weights.
        found: what it saw.
        queue_ms: wait in its queue; NaN where it is unknown.
        detect_ms: its time without the wait; likewise.
    """

    rung: str
    revision: str
    found: Detections
    queue_ms: float
    detect_ms: float


def read_request(body: bytes) -> RequestFacts | None:
    """Facts of a request to a detector; None for one in another protocol or form.

    Raises:
        InvalidInput: no JSON object.
    """
    content = _object(body)
    instances = content.get("instances")
    if not isinstance(instances, list) or not 0 < len(instances) <= _INSTANCES:
        return None
    route, context = _mapping(content.get("route")), _mapping(content.get("context"))
    rung = route.get("model")
    routed = rung in LADDER
    return RequestFacts(
        images=tuple(_image(instance) for instance in instances),
        routed=routed,
        rung=rung if isinstance(rung, str) and routed else "",
        shadow=route.get("shadow") is True,
        probabilities=_per_rung(route.get("probabilities")),
        load_ms=_per_rung(context.get("load_ms")),
        latency_weight=_number(context.get("latency_weight")),
        policy_revision=_text(route.get("revision")),
        digest=hashlib.sha256(body).digest(),
    )


def read_answer(body: bytes) -> tuple[AnswerFacts, ...] | None:
    """Facts of a detector's answer; None for one of another service.

    Raises:
        InvalidInput: no JSON object, or detections that do not belong together.
    """
    predictions = _object(body).get("predictions")
    if not isinstance(predictions, list) or not 0 < len(predictions) <= _INSTANCES:
        return None
    if not all(isinstance(one, dict) and one.get("variant") in LADDER for one in predictions):
        return None
    return tuple(_answer(one) for one in predictions)


def _answer(prediction: Mapping[str, Any]) -> AnswerFacts:
    try:
        scores = np.asarray(prediction["scores"], np.float32)
        boxes = np.asarray(prediction["boxes"], np.float32)
        labels = np.asarray(prediction["labels"])
        count = len(scores)
        boxes = boxes if boxes.size else boxes.reshape(0, 4)  # JSON of no boxes has no sides
        sound = scores.ndim == labels.ndim == 1 and boxes.shape == (len(labels), 4) == (count, 4)
        sound = sound and count <= _DETECTIONS and (not count or labels.dtype == np.int64)
        sound = sound and bool(np.isfinite(boxes).all() and np.isfinite(scores).all())
        sound = sound and bool((np.abs(labels) < 2**31).all())
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise InvalidInput(
            "a prediction's boxes, scores and labels are not n times four numbers, one and one"
        )
    texts = _read_texts(prediction, count)
    order = np.argsort(-scores, kind="stable")
    spent = {
        stage: number
        for stage, value in _mapping(prediction.get("milliseconds")).items()
        if math.isfinite(number := _number(value))
    }
    queue = spent.pop("queue", math.nan)
    return AnswerFacts(
        rung=prediction["variant"],
        revision=_text(prediction.get("revision")),
        found=Detections(boxes, scores, labels.astype(np.int32), texts).take(order),
        queue_ms=queue,
        detect_ms=sum(spent.values()) if spent else math.nan,
    )


def _read_texts(prediction: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    texts = prediction.get("texts")
    if texts is None:
        return None
    if not isinstance(texts, list) or len(texts) != count:
        raise InvalidInput("a prediction's texts are no list of one text for each score")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidInput("a prediction's texts hold something that is no text")
    return tuple(texts)


def _image(instance: Any) -> SentImageFacts:
    text = _mapping(_mapping(instance).get("image")).get("b64")
    if not isinstance(text, str):
        return SentImageFacts(None, None, None)
    length = len(text) // 4 * 3 - text[-2:].count("=")
    try:
        header = read_header(binascii.a2b_base64(text[:_HEADER_TEXT]))
    except (ImageError, ValueError):
        return SentImageFacts(None, None, length)
    return SentImageFacts(header.width, header.height, length)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the event's data are no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput("the event's data are no JSON object")
    return content


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    """NaN for anything that is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def _per_rung(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != len(LADDER):
        return ()
    numbers = tuple(_number(one) for one in value)
    return numbers if all(map(math.isfinite, numbers)) else ()


def _text(value: Any) -> str:
    return value[:_TEXT] if isinstance(value, str) else ""
