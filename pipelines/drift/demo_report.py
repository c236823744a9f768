"""What the drift demo measured, phase by phase and over time; its chart and its page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from numpy.typing import NDArray

from components.data.classes import Classes
from components.evaluation.report_schema import without_nan
from components.evaluation.streamed_accuracy import (
    COLUMNS,
    StreamedAccuracy,
    change_between,
    streamed_accuracy,
)
from components.page import RUNG_COLOURS, chart, html, page, paragraph, section, table
from foundation.errors import InvalidInput
from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from inference_graph.prediction_log.reader import read_log
from pipelines.drift.demo import AFTER, BEFORE, DAY, DRIFT, TRAINING, DriftDemo

REPORT_FILE, REPORT_PAGE = "report.json", "report.html"
_WINDOW = 60
"""Frames of one point of the chart."""
_PHASES = {
    DAY: "day, champion",
    DRIFT: "{condition}, champion, until it was found",
    BEFORE: "{condition}, champion, the clips compared",
    TRAINING: "{condition}, during the retraining",
    AFTER: "{condition}, challenger, the same clips",
}
_COMPARED = ("retained", "retained_truth", "map", "mean_ms", "large_share")


def report_of(demo: DriftDemo, condition: str, classes: Classes) -> dict[str, Any]:
    """Measure what was streamed.

    Args:
        demo: what happened.
        condition: what came after day.
        classes: those of the detectors.

    Raises:
        InvalidInput: no answer of the stream is in the log.
    """
    rows = read_log(demo.log, columns=COLUMNS)
    shown = {one.number: (one.shot.folder, one.shot.index) for one in demo.sent}
    rows = rows.filter(rows["frame_id"].is_valid())
    streamed = streamed_accuracy(rows, demo.scenes, shown, classes)
    if not len(streamed):
        raise InvalidInput(
            f"no answer of the demo's stream is in {demo.log}; see its services' logs"
        )
    phase_of = {one.number: one.shot.phase for one in demo.sent}
    phases = np.array([phase_of[number] for number in streamed.numbers.tolist()])
    answered = sum(bool(one.answered_by) for one in demo.sent)
    found = [
        {
            "phase": phase,
            "what": what.format(condition=condition),
            "frames": int((phases == phase).sum()),
            "policies": sorted(set(np.array(streamed.revisions)[phases == phase].tolist())),
            "shares": _shares(streamed, phases == phase),
            **streamed.figures((phases == phase).astype(np.float64)),
        }
        for phase, what in _PHASES.items()
        if (phases == phase).any()
    ]
    before, after = (_clips(demo, streamed, phases == phase) for phase in (BEFORE, AFTER))
    return {
        "condition": condition,
        "champion": demo.champion,
        "challenger": demo.retraining.challenger if demo.retraining else None,
        "outcome": demo.retraining.outcome if demo.retraining else "no retraining was called for",
        "frames": {"sent": len(demo.sent), "answered": answered, "measured": len(streamed)},
        "began": demo.began,
        "found": demo.found,
        "swapped": demo.swapped,
        "seconds_to_find": demo.found - demo.began if demo.found else None,
        "seconds": demo.seconds,
        "phases": found,
        "same_clips": {figure: _change(streamed, before, after, figure) for figure in _COMPARED}
        if after
        else None,
        "timeline": _timeline(streamed, phases),
        "checks": [json.loads(json.dumps(asdict(one), default=str)) for one in demo.checks],
    }


def write_demo_report(report: Mapping[str, Any], out: Path) -> Path:
    """Write ``report.json`` and ``report.html``; returns the page."""
    with atomic_path(out / REPORT_FILE) as partial:
        text = json.dumps(without_nan(report), indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
    page_text = page(
        "Drift, found and mended",
        html("<p><strong>{{ text }}</strong></p>", text=headline(report)),
        section("Over time", chart(_figure(report), "timeline")),
        section("Phase by phase", _phases(report)),
        section("The same clips before and after", _same_clips(report)),
        section("The drift checks", _checks(report)),
        paragraph(
            "Retained: mAP of the answers over large's on the same frames; the first against "
            "what large saw (all that production has), the second against the scenes' own boxes. "
            "Intervals are 90 %, by a bootstrap over clips."
        ),
    )
    with atomic_path(out / REPORT_PAGE) as partial:
        partial.write_text(page_text, encoding="utf-8")
    return out / REPORT_PAGE


def headline(report: Mapping[str, Any]) -> str:
    """One sentence: what was lost, found and won back."""
    by_name = {one["phase"]: one for one in report["phases"]}
    day, before, after = (by_name.get(phase) for phase in (DAY, BEFORE, AFTER))
    parts = []
    if day and before:
        parts.append(
            f"The champion keeps {day['retained_truth']:.1%} of large's accuracy by day and "
            f"{before['retained_truth']:.1%} in {report['condition']}"
        )
    if report["found"] is None:
        return ". ".join([*parts, "No drift that hurts was found"]) + "."
    parts.append(f"that was found after {report['seconds_to_find']:.0f} s")
    if not after:
        return ", ".join(parts) + f"; {report['outcome']}."
    change = report["same_clips"]["retained_truth"]
    return (
        ", ".join(parts)
        + f"; on the same clips the challenger keeps {after['retained_truth']:.1%} "
        f"({100 * change['change']:+.1f} points, {100 * change['low']:+.1f} to "
        f"{100 * change['high']:+.1f}) at {after['mean_ms']:.0f} ms instead of "
        f"{before['mean_ms']:.0f}."  # type: ignore[index]  # after follows before
    )


def _change(
    streamed: StreamedAccuracy,
    before: Mapping[str, NDArray[np.int64]],
    after: Mapping[str, NDArray[np.int64]],
    figure: str,
) -> dict[str, float]:
    change, low, high = change_between(streamed, before, after, figure)
    return {"change": change, "low": low, "high": high}


def _clips(
    demo: DriftDemo, streamed: StreamedAccuracy, members: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """Positions of a phase's frames, by clip."""
    shot_of = {one.number: one.shot for one in demo.sent}
    clips: dict[str, list[int]] = {}
    for position in np.flatnonzero(members).tolist():
        shot = shot_of[int(streamed.numbers[position])]
        clip = demo.scenes[shot.folder].images[shot.index].clip
        clips.setdefault(str(clip), []).append(position)
    return {clip: np.array(positions, np.int64) for clip, positions in clips.items()}


def _shares(streamed: StreamedAccuracy, members: NDArray[np.bool_]) -> dict[str, float]:
    return {
        rung: float(np.mean(streamed.rungs[members] == index)) for index, rung in enumerate(LADDER)
    }


def _timeline(streamed: StreamedAccuracy, phases: NDArray[Any]) -> list[dict[str, Any]]:
    points = []
    for first in range(0, len(streamed), _WINDOW):
        members = np.zeros(len(streamed))
        members[first : first + _WINDOW] = 1.0
        points.append(
            {
                "time": float(streamed.times[members > 0].mean()),
                "phase": str(phases[first]),
                "frames": int(members.sum()),
                "shares": _shares(streamed, members > 0),
                **streamed.figures(members),
            }
        )
    return points


def _figure(report: Mapping[str, Any]) -> go.Figure:
    points = report["timeline"]
    start = points[0]["time"]
    minutes = [(point["time"] - start) / 60 for point in points]
    figure = go.Figure()
    for rung in LADDER:
        figure.add_bar(
            x=minutes,
            y=[point["shares"][rung] for point in points],
            name=f"{rung}, share",
            marker_color=RUNG_COLOURS[rung],
            opacity=0.35,
            yaxis="y2",
        )
    for key, name, colour in (
        ("retained", "retained, against large", "#0b6e4f"),
        ("retained_truth", "retained, against the scenes", "#1c2733"),
    ):
        figure.add_scatter(
            x=minutes,
            y=[point[key] for point in points],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
        )
    for key, text in (("began", "drift begins"), ("found", "found"), ("swapped", "new policy")):
        if report[key]:
            figure.add_vline(
                x=(report[key] - start) / 60,
                line={"dash": "dot", "color": "#5b6770"},
                annotation_text=text,
            )
    figure.update_layout(
        template="plotly_white",
        height=480,
        barmode="stack",
        bargap=0.05,
        margin={"l": 60, "r": 60, "t": 30, "b": 60},
        xaxis_title="minutes",
        yaxis={"title": "accuracy retained", "tickformat": ".0%", "overlaying": "y2"},
        yaxis2={
            "title": "frames by rung",
            "tickformat": ".0%",
            "side": "right",
            "range": [0, 1],
            "showgrid": False,
        },
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def _phases(report: Mapping[str, Any]) -> Markup:
    rows = [
        (
            one["what"],
            f"{one['frames']:,}",
            _share(one["retained"]),
            _share(one["retained_truth"]),
            f"{one['mean_ms']:.0f}",
            *(_share(one["shares"][rung], 0) for rung in LADDER),
            ", ".join(one["policies"]),
        )
        for one in report["phases"]
    ]
    header = ("", "frames", "retained", "retained, scenes", "ms", *LADDER, "policy")
    frames = report["frames"]
    return table(header, rows) + paragraph(
        f"{frames['sent']:,} frames in one stream, {frames['answered']:,} answered; large "
        f"looked at {frames['measured']:,} of them. {report['seconds'] / 60:.1f} minutes in all. "
        f"{report['outcome']}."
    )


def _same_clips(report: Mapping[str, Any]) -> Markup:
    if report["same_clips"] is None:
        return paragraph("No new policy took over.")
    rows = [
        (name, *(f"{found[end]:+.4g}" for end in ("change", "low", "high")))
        for name, found in report["same_clips"].items()
    ]
    return table(("after less before", "change", "from", "to"), rows)


def _checks(report: Mapping[str, Any]) -> Markup:
    rows = [
        (f"{_clock(one['checked_at'])} · {one['sentence']}", f"{one['frames']:,}")
        for one in report["checks"]
    ]
    return table(("check", "frames"), rows)


def _clock(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%H:%M:%S}"


def _share(value: float | None, digits: int = 1) -> str:
    return "not measured" if value is None or value != value else f"{value:.{digits}%}"
