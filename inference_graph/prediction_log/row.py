"""What is logged: one row per answer and one summary per session; feedback: see ``feedback_row``.

A field of :class:`PredictionRow` is the column of that name in ``SCHEMA``; a figure that is not
known is NaN or None here and null in the column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foundation.errors import InvalidInput
from inference_graph.contract import GEARS, LADDER, Detections
from inference_graph.prediction_log.agreement import agreement

__all__ = [
    "SCHEMA",
    "TIME",
    "PredictionRow",
    "SessionSummary",
    "agreement",
    "answer_columns",
    "check_event_id",
    "check_session",
    "shadow_columns",
]

Numbers = Sequence[float] | npt.NDArray[Any]

SOURCES = ("stream", "detect", "graph", "kafka")
FALLBACKS = ("", "failed", "late", "open")

TIME = pa.timestamp("us", tz="UTC")
"""Type of the columns that hold a point in time."""
FLOATS, INTEGERS = pa.list_(pa.float32()), pa.list_(pa.int32())
TEXTS = pa.list_(pa.string())
_MILLISECONDS = (
    "decode_ms",
    "observe_ms",
    "decide_ms",
    "queue_ms",
    "detect_ms",
    "total_ms",
    "deadline_ms",
)

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        *((name, pa.string()) for name in ("source", "session")),
        ("frame_id", pa.int64()),
        *((name, pa.string()) for name in ("client", "policy_revision")),
        ("latency_weight", pa.float64()),
        *((name, pa.string()) for name in ("rung", "answered_by", "revision", "fallback")),
        ("asked", pa.string()),
        *((name, FLOATS) for name in ("probabilities", "load_ms")),
        *((name, pa.float64()) for name in _MILLISECONDS),
        *((name, pa.int32()) for name in ("width", "height", "image_bytes")),
        *((name, pa.float32()) for name in ("brightness", "edge_density", "blur", "noise")),
        ("boxes", FLOATS),
        ("scores", FLOATS),
        ("labels", INTEGERS),
        ("texts", TEXTS),
        ("detections", pa.int32()),
        ("shadow", pa.bool_()),
        ("shadow_ms", pa.float64()),
        ("shadow_boxes", FLOATS),
        ("shadow_scores", FLOATS),
        ("shadow_labels", INTEGERS),
        ("shadow_texts", TEXTS),
        ("agreement", pa.float32()),
        ("dropped_before", pa.int32()),
        ("observation", FLOATS),
        ("tags", pa.map_(pa.string(), pa.string())),
        *((name, pa.string()) for name in ("error", "condition")),
        ("image_kept", pa.bool_()),
        ("image", pa.binary()),
    ]
)
"""Columns of the log; boxes are flattened, four numbers x1, y1, x2, y2 for each detection."""

_EVENT_ID = re.compile(r"[\x21-\x7e]{1,200}")
_SESSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictionRow:
    """One answer.

    Attributes:
        event_id: unique key, 1 to 200 printable ASCII characters without blanks.
        time: when the answer was given; aware.
        source: "stream", "detect", "graph" or "kafka".
        session: the stream's name; empty outside a stream.
        frame_id: number of the frame in its stream; None outside a stream.
        client: name of the token that asked.
        policy_revision: first 12 digits of the digest of the policy.
        latency_weight: operating point.
        rung: the rung the policy chose.
        answered_by: the rung that answered, or "reuse" where the stream's tracks were moved on
            without a look; empty if none did.
        revision: first 12 digits of the digest of the weights that answered.
        fallback: why another answered than was asked: "failed", "late" or "open" (its circuit);
            else empty.
        asked: first 12 digits of the digest of the weights that were asked first; during a
            rollout a rung has two. Empty where the gateway did not ask.
        probabilities: one per rung.
        load_ms: expected wait of every rung when the policy chose, milliseconds.
        decode_ms: time to decode the image; this and the next are milliseconds of wall time.
        observe_ms: time to make the observation.
        decide_ms: time of the policy.
        queue_ms: wait in the detector's queue.
        detect_ms: time of the detector without the wait.
        total_ms: from the frame's arrival to the answer.
        deadline_ms: what the client allowed.
        width: of the frame in pixels.
        height: of the frame in pixels.
        image_bytes: length of the encoded image.
        brightness: mean grey level, 0..1; this and the next are statistics of the frame.
        edge_density: share of edge pixels, 0..1.
        blur: variance of the Laplacian.
        noise: estimated standard deviation of the noise, grey levels.
        boxes: float32 [n, 4] or [4 n], corners x1, y1, x2, y2 in pixels of the frame, as the rung
            saw them; of the tracks where none looked.
        scores: float32 [n], falling.
        labels: int32 [n], class indices of the detector.
        texts: what each region reads, [n]; None of a rung that does not read.
        shadow: whether the reference looked too.
        shadow_ms: how long that took.
        shadow_boxes: as ``boxes``.
        shadow_scores: as ``scores``.
        shadow_labels: as ``labels``.
        shadow_texts: as ``texts``.
        agreement: of the answer with the shadow; see :func:`agreement`.
        dropped_before: frames dropped since the answer before.
        observation: float32 [OBSERVATION_SIZE]; the log keeps it for a sampled share of rows, and
            for those that have an image.
        tags: names and texts that the client gave the session, for example its condition.
        error: one line; empty for an answer.
        image: the frame as JPEG, at most 640 pixels wide; None for most rows.
    """

    event_id: str
    time: datetime
    source: str
    session: str = ""
    frame_id: int | None = None
    client: str = ""
    policy_revision: str = ""
    latency_weight: float = math.nan
    rung: str = ""
    answered_by: str = ""
    revision: str = ""
    fallback: str = ""
    asked: str = ""
    probabilities: Numbers = ()
    load_ms: Numbers = ()
    decode_ms: float = math.nan
    observe_ms: float = math.nan
    decide_ms: float = math.nan
    queue_ms: float = math.nan
    detect_ms: float = math.nan
    total_ms: float = math.nan
    deadline_ms: float = math.nan
    width: int | None = None
    height: int | None = None
    image_bytes: int | None = None
    brightness: float = math.nan
    edge_density: float = math.nan
    blur: float = math.nan
    noise: float = math.nan
    boxes: Numbers = ()
    scores: Numbers = ()
    labels: Numbers = ()
    texts: Sequence[str] | None = None
    shadow: bool = False
    shadow_ms: float = math.nan
    shadow_boxes: Numbers = ()
    shadow_scores: Numbers = ()
    shadow_labels: Numbers = ()
    shadow_texts: Sequence[str] | None = None
    agreement: float = math.nan
    dropped_before: int = 0
    observation: Numbers | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    image: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be read back.

        Raises:
            InvalidInput: an unusable key, a naive time, an unknown word, or boxes, scores, labels
                and texts of different numbers.
        """
        check_event_id(self.event_id)
        check_aware(self.time)
        for name, known in (
            ("source", SOURCES),
            ("rung", ("", *LADDER)),
            ("answered_by", ("", *GEARS)),
            ("fallback", FALLBACKS),
        ):
            if getattr(self, name) not in known:
                raise InvalidInput(f"{name} {getattr(self, name)!r} is none of {known}")
        check_sizes(self.boxes, self.scores, self.labels, self.texts)
        check_sizes(self.shadow_boxes, self.shadow_scores, self.shadow_labels, self.shadow_texts)

    @property
    def detections(self) -> int:
        """How many objects were found; a column, so that counting does not read them."""
        return len(self.scores)

    @property
    def image_kept(self) -> bool:
        """Whether there is an image; a column, for the same reason."""
        return self.image is not None

    @property
    def condition(self) -> str:
        """The tag of that name, empty without it; a column, for many queries ask for it alone."""
        return self.tags.get("condition", "")


def answer_columns(found: Detections) -> dict[str, Any]:
    """Fields of a row for what the answering rung saw; give them as ``**answer_columns(found)``."""
    return {
        "boxes": found.boxes,
        "scores": found.scores,
        "labels": found.labels,
        "texts": found.texts,
    }


def shadow_columns(answer: Detections, shadow: Detections, milliseconds: float) -> dict[str, Any]:
    """Fields of a row for what the reference saw, their agreement included."""
    return {
        "shadow": True,
        "shadow_ms": milliseconds,
        "shadow_boxes": shadow.boxes,
        "shadow_scores": shadow.scores,
        "shadow_labels": shadow.labels,
        "shadow_texts": shadow.texts,
        "agreement": agreement(answer, shadow),
    }


@dataclass(frozen=True, kw_only=True)
class SessionSummary:
    """One client's stream of frames, first to last.

    Attributes:
        session: its name, 1 to 100 of A-Z, a-z, 0-9, dot, hyphen, underscore, no dot first.
        client: name of the token.
        started: first frame; aware.
        ended: last answer; aware.
        frames: frames answered.
        dropped: frames dropped.
        shares: share of the frames answered by each rung, and by "reuse" if any was, 0..1.
        latency_mean_ms: of the time from a frame's arrival to its answer.
        latency_p50_ms: median of it.
        latency_p95_ms: 95th percentile of it.
        savings: share of the reference's time that was saved, when that is known.
        shadow_frames: frames the reference looked at too.
        agreement_mean: over those frames; None without any.
        fallbacks: frames answered by another rung than the chosen one.
        policy_revision: first 12 digits of the digest of the policy.
        latency_weight: operating point.
        tags: names and texts that the client gave the session.
    """

    session: str
    client: str
    started: datetime
    ended: datetime
    frames: int
    dropped: int
    shares: Mapping[str, float]
    latency_mean_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    savings: float | None = None
    shadow_frames: int = 0
    agreement_mean: float | None = None
    fallbacks: int = 0
    policy_revision: str = ""
    latency_weight: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a name that is no file's, naive times and unknown rungs.

        Raises:
            InvalidInput: names the value and what it must be.
        """
        check_session(self.session)
        check_aware(self.started)
        check_aware(self.ended)
        if not set(self.shares) <= set(GEARS):
            raise InvalidInput(f"shares of {list(self.shares)}; known are {list(GEARS)}")


def check_event_id(event_id: str) -> None:
    """Refuse a key that is empty, longer than 200 or not printable ASCII without blanks.

    Raises:
        InvalidInput: it is none.
    """
    if not _EVENT_ID.fullmatch(event_id):
        raise InvalidInput(
            f"event id {event_id[:50]!r} is not 1 to 200 printable ASCII characters without blanks"
        )


def check_session(session: str) -> None:
    """Refuse a session's name that could not name a file.

    Raises:
        InvalidInput: not 1 to 100 letters, digits, hyphens, underscores and dots, no dot first.
    """
    if not _SESSION.fullmatch(session):
        raise InvalidInput(
            f"session {session[:50]!r} is not 1 to 100 of A-Z a-z 0-9 . _ - with no dot first"
        )


def check_aware(time: datetime) -> None:
    """Refuse a time without a zone.

    Raises:
        InvalidInput: it has none.
    """
    if time.utcoffset() is None or not isinstance(time.utcoffset(), timedelta):
        raise InvalidInput(f"time {time} has no time zone; give an aware one, in UTC at best")


def check_sizes(
    boxes: Numbers, scores: Numbers, labels: Numbers, texts: Sequence[str] | None = None
) -> None:
    """Refuse boxes, scores, labels and texts of different numbers.

    Raises:
        InvalidInput: they do not belong together.
    """
    if np.size(boxes) != 4 * len(scores) or len(labels) != len(scores):
        raise InvalidInput(
            f"{np.size(boxes)} numbers of boxes, {len(scores)} scores and {len(labels)} labels do "
            "not belong together; each detection has four, one and one"
        )
    if texts is not None and len(texts) != len(scores):
        raise InvalidInput(
            f"{len(texts)} texts of {len(scores)} regions; a rung that reads gives one of each"
        )
