"""The context of a frame as a caller sends it: the previous look, the load, the operating point.

::

    {"look": {"rung": "nano", "boxes": [[x1, y1, x2, y2], …], "scores": […], "labels": […],
              "width": 640, "height": 480},
     "load_ms": [0, 0, 120], "latency_weight": 0.1}

All of it may be left out. A look may be a detector's V1 prediction as it came: ``variant`` stands
for ``rung``, what else is in it does not matter, and without a width and height it was at a frame
of the same size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_transformer.observation import LADDER, Look, load_features, preference
from foundation.errors import InvalidInput
from serving_kit.tensors import from_values

_MAX_BOXES = 1000
_MAX_SIDE = 100_000


@dataclass(frozen=True)
class SentContext:
    """The context of a frame as a caller sent it, checked.

    Attributes:
        load_ms: expected wait of every rung's queue in milliseconds.
        latency_weight: the operating point, or None for the policy's own.
        seen: the previous look, at a frame of the size sent, or of one pixel; None without one.
        sized: whether the look's frame size was sent.
    """

    load_ms: tuple[float, ...] = (0.0,) * len(LADDER)
    latency_weight: float | None = None
    seen: Look | None = None
    sized: bool = False

    def look(self, height: int, width: int) -> Look | None:
        """The previous look, at a frame of this size unless its own was sent."""
        if self.seen is None or self.sized:
            return self.seen
        seen = self.seen
        return Look(seen.rung, seen.boxes, seen.scores, seen.labels, width=width, height=height)


def read_context(sent: object) -> SentContext:
    """A context from JSON.

    Raises:
        InvalidInput: it has another form, or numbers out of their range.
    """
    if sent is None:
        return SentContext()
    if not isinstance(sent, Mapping):
        raise InvalidInput("the context is no JSON object")
    unknown = set(sent) - {"look", "load_ms", "latency_weight"}
    if unknown:
        raise InvalidInput(
            f"the context has no {min(unknown, key=str)[:40]!r}; it has look, load_ms and "
            "latency_weight"
        )
    load = sent.get("load_ms")
    load_ms = SentContext.load_ms if load is None else tuple(_numbers("load_ms", load).tolist())
    load_features(load_ms)
    weight = sent.get("latency_weight")
    if weight is not None:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise InvalidInput("the context's latency_weight is no number")
        preference(weight)
    look = sent.get("look")
    if look is None:
        return SentContext(load_ms, weight)
    seen, sized = _look(look)
    return SentContext(load_ms, weight, seen, sized)


def _look(sent: object) -> tuple[Look, bool]:
    if not isinstance(sent, Mapping):
        raise InvalidInput("the context's look is no JSON object")
    rung = sent.get("rung", sent.get("variant"))
    if rung not in LADDER:
        raise InvalidInput(
            f"the look is by rung {str(rung)[:40]!r}; the ladder has {', '.join(LADDER)}"
        )
    boxes = sent.get("boxes")
    if not isinstance(boxes, list) or len(boxes) > _MAX_BOXES:
        raise InvalidInput(f"the look's boxes are no list of at most {_MAX_BOXES}")
    corners = _numbers("boxes", boxes, len(boxes), 4) if boxes else np.zeros((0, 4), np.float32)
    scores = _numbers("scores", sent.get("scores"), len(boxes))
    labels = _numbers("labels", sent.get("labels"), len(boxes)).astype(np.int64)
    if ((scores < 0) | (scores > 1)).any():
        raise InvalidInput("the look's scores are not all between 0 and 1")
    sides = [sent.get(side) for side in ("width", "height")]
    sized = sides != [None, None]
    width, height = (side if type(side) is int and 0 < side <= _MAX_SIDE else 0 for side in sides)
    if not sized:
        width = height = 1
    if not width or not height:
        raise InvalidInput(f"the look's width and height are not both 1 to {_MAX_SIDE}")
    return Look(LADDER.index(rung), corners, scores, labels, width=width, height=height), sized


def _numbers(name: str, sent: Any, *shape: int) -> np.ndarray:
    """Finite float32 numbers of a shape, or of any length without one."""
    if not isinstance(sent, list) or len(sent) > _MAX_BOXES:
        raise InvalidInput(f"the context's {name} are no list of numbers")
    values = from_values(name, "FP32", shape or (len(sent),), sent).array()
    if not np.isfinite(values).all():
        raise InvalidInput(f"the context's {name} are not all finite")
    return values
