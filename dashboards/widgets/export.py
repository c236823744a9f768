"""What a view shows as CSV, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from dashboards.log.figures import Timeline
from dashboards.log.frames import LoggedFrame

_FRAME_COLUMNS = (
    "event_id",
    "time",
    "session",
    "condition",
    "frame_id",
    "rung",
    "answered_by",
    "fallback",
    "decode_ms",
    "observe_ms",
    "decide_ms",
    "queue_ms",
    "detect_ms",
    "total_ms",
    "detections",
    "agreement",
    "dropped_before",
    "policy_revision",
    "error",
)
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


def timeline_csv(line: Timeline) -> str:
    """Figures by time, one line per step; times are UTC."""
    head = ["start", "seconds", *line.frames, "unanswered", "fallbacks", "dropped", "agreement"]
    columns = [*line.frames.values(), line.failed, line.fallbacks, line.dropped]
    return _csv(
        head,
        [
            [
                start.isoformat(),
                line.seconds,
                *(int(column[index]) for column in columns),
                float(line.agreement[index]),
            ]
            for index, start in enumerate(line.start)
        ],
    )


def frames_csv(frames: Sequence[LoggedFrame]) -> str:
    """Rows of the log without boxes, images and observations."""
    rows = []
    for frame in frames:
        values = {**frame.values, "time": frame.time.isoformat(), "condition": frame.condition}
        rows.append([values.get(column) for column in _FRAME_COLUMNS])
    return _csv(_FRAME_COLUMNS, rows)


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([[_plain(cell) for cell in row] for row in rows])
    return text.getvalue()


def _plain(cell: object) -> object:
    """A cell no spreadsheet takes for a formula: names come from clients."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, str) and cell.startswith(_DANGEROUS):
        return f"'{cell}"
    return cell
