"""What became of each frame of the streams demo: a table and a chart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from components.page import chart, page, paragraph, section, table
from foundation.storage import atomic_path
from pipelines.streams.demo import StreamsDemo

REPORT_FILE, REPORT_PAGE = "report.json", "report.html"


def report_of(demo: StreamsDemo) -> dict[str, Any]:
    """Count what was sent and what a reader of the answers saw.

    Frames that nearly repeat others are dropped by Flink, which counts them; those that cannot
    be decoded are dead letters. All others have exactly one answer.
    """
    sent = {one.frame: one for one in demo.sent}
    seen = Counter(one.frame for one in demo.answers)
    milliseconds = [
        1000 * (one.seen - sent[one.frame].sent) for one in demo.answers if one.frame in sent
    ]
    figures = np.percentile(milliseconds, (50, 95, 99)) if milliseconds else [float("nan")] * 3
    return {
        "sent": len(sent),
        "answered": len(seen),
        "repeats": demo.repeats,
        "dead_letters": demo.dead_letters,
        "doubled": sum(count - 1 for count in seen.values()),
        "lost": max(demo.expected - len(seen), 0),
        "out_of_order": out_of_order(demo),
        "ms_p50": round(float(figures[0]), 1),
        "ms_p95": round(float(figures[1]), 1),
        "ms_p99": round(float(figures[2]), 1),
        "worker_killed": demo.killed is not None,
        "flink": demo.flink,
        "cameras": demo.config.cameras,
        "rungs": dict(sorted(Counter(one.answered_by for one in demo.answers).items())),
    }


def out_of_order(demo: StreamsDemo) -> int:
    """Answers that came after one to a later frame of their camera."""
    latest: dict[str, int] = {}
    wrong = 0
    for one in demo.answers:
        number = int(one.frame)
        wrong += number < latest.get(one.camera, -1)
        latest[one.camera] = max(number, latest.get(one.camera, -1))
    return wrong


def rows_of(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The table that the demo ends with."""
    names = ("sent", "repeats", "dead_letters", "answered", "doubled", "lost", "out_of_order")
    words = {"repeats": "near repeats, dropped by Flink"}
    rows = [(words.get(name, name.replace("_", " ")), f"{report[name]:,}") for name in names]
    ms = " / ".join(f"{report[f'ms_p{part}']:,.0f}" for part in (50, 95, 99))
    return [*rows, ("ms from publication to answer, p50 / p95 / p99", ms)]


def write_streams_report(demo: StreamsDemo, report: dict[str, Any], out: Path) -> Path:
    """Write ``report.json`` and ``report.html``; returns the page.

    Raises:
        StorageError: they cannot be written.
    """
    with atomic_path(out / REPORT_FILE) as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    parts: Sequence[Any] = (
        section("What became of each frame", table(("", "frames"), rows_of(report))),
        section("Milliseconds from publication to answer", chart(_chart(demo), "milliseconds")),
        paragraph(
            "Read with isolation.level=read_committed. "
            + (
                "Flink prepared the frames: an answer waits for the checkpoint that commits its "
                "frame, one second apart."
                if report["flink"]
                else "Flink was not installed, so frames went to the worker as they were sent."
            )
        ),
    )
    with atomic_path(out / REPORT_PAGE) as partial:
        partial.write_text(page("Streams", *parts), encoding="utf-8")
    return out / REPORT_PAGE


def _chart(demo: StreamsDemo) -> go.Figure:
    sent = {one.frame: one for one in demo.sent}
    begin = demo.sent[0].sent if demo.sent else 0.0
    figure = go.Figure()
    for camera in sorted({one.camera for one in demo.sent}):
        known = [one for one in demo.answers if one.camera == camera and one.frame in sent]
        figure.add_scatter(
            x=[sent[one.frame].sent - begin for one in known],
            y=[1000 * (one.seen - sent[one.frame].sent) for one in known],
            mode="markers",
            marker={"size": 5},
            name=camera,
        )
    if demo.killed is not None:
        figure.add_vline(x=demo.killed - begin, line_dash="dash", annotation_text="worker killed")
    figure.update_xaxes(title="published, seconds after the first frame")
    figure.update_yaxes(title="milliseconds", type="log")
    return figure
