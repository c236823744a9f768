"""Feedback that came by ``POST /v1/feedback``, joined with the answers it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data.classes import Classes
from components.data.dataset import UNKNOWN_CONDITION
from components.feedback.item import FeedbackItem
from inference_graph.contract import REFERENCE, Detections
from inference_graph.prediction_log.agreement import AGREEMENT_SCORE
from inference_graph.prediction_log.columns import DETECTION_COLUMNS
from inference_graph.prediction_log.feedback_row import FEEDBACK_SCHEMA
from inference_graph.prediction_log.reader import read_feedback, read_log

_FEEDBACK_COLUMNS = [name for name in FEEDBACK_SCHEMA.names if name != "image"]
_ANSWER_COLUMNS = [
    "event_id",
    "width",
    "height",
    "answered_by",
    *DETECTION_COLUMNS,
    "condition",
    "image_kept",
]
_HOUR = timedelta(hours=1)
_LATE = timedelta(minutes=15)
"""A row is written after the shadow has looked, so it may stand so much behind its event id."""


def stream_items(log_url: str, classes: Classes) -> list[FeedbackItem]:
    """All feedback of a log, by rising time; pictures are not read.

    Only the hours of the log with answers that feedback is about are read.

    Args:
        log_url: folder or bucket of the prediction log.
        classes: what the labels mean.

    Raises:
        ConfigurationError: no usable url.
        StorageError: the log cannot be read.
    """
    rows = read_feedback(log_url, columns=_FEEDBACK_COLUMNS).to_pylist()
    answers: dict[str, dict[str, Any]] = {}
    for table in _answers(log_url, rows, _ANSWER_COLUMNS):
        answers |= {answer["event_id"]: answer for answer in table.to_pylist()}
    return [_item(row, answers.get(row["event_id"]), classes) for row in rows]


def stream_pictures(log_url: str, items: Iterable[FeedbackItem]) -> dict[str, bytes]:
    """Pictures of stream items, JPEG, by item id: those beside the feedback, else the answers'.

    Args:
        log_url: folder or bucket of the prediction log.
        items: whose pictures; those without one are left out.

    Raises:
        StorageError: the log cannot be read.
    """
    wanted = {item.item_id: item for item in items if item.pictured}
    if not wanted:
        return {}
    found: dict[str, bytes] = {}
    hours = {_start_of_hour(item.time) for item in wanted.values()}
    for hour in sorted(hours):
        table = read_feedback(
            log_url, hour, hour + _HOUR, ["feedback_id", "image"]
        )  # one hour at a time: images are large
        ours = table.filter(pc.is_in(table["feedback_id"], pa.array(list(wanted), pa.string())))
        found |= {
            row["feedback_id"]: row["image"] for row in ours.to_pylist() if row["image"] is not None
        }
    rest = [item for key, item in wanted.items() if key not in found]
    about = [{"event_id": item.about, "time": item.time} for item in rest]
    for table in _answers(log_url, about, ["event_id", "image"]):
        images = dict(zip(table["event_id"].to_pylist(), table["image"].to_pylist(), strict=True))
        found |= {
            item.item_id: images[item.about] for item in rest if images.get(item.about) is not None
        }
    return found


def _answers(
    log_url: str, rows: Iterable[dict[str, Any]], columns: list[str]
) -> Iterator[pa.Table]:
    """The answers that rows of feedback are about, hour by hour."""
    by_hour: dict[datetime, set[str]] = {}
    for row in rows:
        for hour in _hours_of(row["event_id"], row["time"]):
            by_hour.setdefault(hour, set()).add(row["event_id"])
    for hour in sorted(by_hour):
        table = read_log(log_url, hour, hour + _HOUR, columns)
        keys = pa.array(sorted(by_hour[hour]), pa.string())
        yield table.filter(pc.is_in(table["event_id"], keys))


def _hours_of(event_id: str, given: datetime) -> set[datetime]:
    """The hours in which the answer may have been logged.

    A gateway's event id begins with its time; for another one the gateway has looked back an hour.
    """
    first, last = given - _HOUR, given
    if len(event_id) == 32:
        try:
            made = datetime.fromtimestamp(int(event_id[:12], 16) / 1e3, UTC)
        except (ValueError, OverflowError, OSError):
            made = None
        if made is not None and timedelta(0) <= given + _LATE - made <= timedelta(days=3650):
            first, last = made, made + _LATE
    return {_start_of_hour(first), _start_of_hour(last)}


def _start_of_hour(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _item(row: dict[str, Any], answer: dict[str, Any] | None, classes: Classes) -> FeedbackItem:
    blockers = []
    logged = answer or {}
    boxes, labels = _objects(row["boxes"], row["labels"])
    if row["kind"] == "confirm":
        sure = np.array(logged.get("scores") or (), np.float64) >= AGREEMENT_SCORE
        boxes, labels = _objects(logged.get("boxes"), logged.get("labels"))
        boxes, labels = boxes[sure], labels[sure]
        if answer is None:
            blockers.append("the answer it confirms is not in the log any more")
    width, height = row["width"] or logged.get("width"), row["height"] or logged.get("height")
    pictured = bool(row["image_kept"] or logged.get("image_kept"))
    if not pictured or not width or not height:
        blockers.append("its frame is not kept, so nothing can be trained on it")
    strange = sorted(set(labels.tolist()) - set(range(len(classes.names))))
    if strange:
        blockers.append(
            f"label {strange[0]} is no class of the ladder, which has {len(classes.names)}"
        )
    ids = np.array([*classes.category_ids, 0], np.int64)
    return FeedbackItem(
        item_id=row["feedback_id"],
        origin="stream",
        user=row["client"],
        time=row["time"],
        kind=row["kind"],
        about=row["event_id"],
        frame=row["event_id"],
        note=row["note"] or "",
        width=width or 0,
        height=height or 0,
        boxes=boxes,
        category_ids=ids[np.where(labels < len(classes.names), labels, -1)],
        is_crowd=np.zeros(len(labels), np.bool_),
        areas=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
        condition=logged.get("condition") or UNKNOWN_CONDITION,
        pictured=pictured,
        answered_by=logged.get("answered_by") or "",
        answer=None if answer is None else _detections(answer, ""),
        reference=_reference(logged),
        blockers=tuple(blockers),
    )


def _reference(answer: dict[str, Any]) -> Detections | None:
    """What large saw: beside the answer, or as the answer."""
    prefix = "shadow_" if answer.get("shadow") else ""
    if not prefix and answer.get("answered_by") != REFERENCE:
        return None
    return _detections(answer, prefix)


def _detections(answer: dict[str, Any], prefix: str) -> Detections:
    boxes, labels = _objects(answer[f"{prefix}boxes"], answer[f"{prefix}labels"])
    scores = np.array(answer[f"{prefix}scores"] or (), np.float32)
    return Detections(boxes.astype(np.float32), scores, labels.astype(np.int32))


def _objects(boxes: Any, labels: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return (
        np.array(boxes or (), np.float64).reshape(-1, 4),
        np.array(labels or (), np.int64).reshape(-1),
    )
