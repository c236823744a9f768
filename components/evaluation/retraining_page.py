"""Champion against challenger as a page: the verdict first, then every figure behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from components.evaluation.challenge import AT_EQUAL_LATENCY, CHALLENGER, CHAMPION
from components.page import chart, html, page, paragraph, section, table
from components.tasks import Task, detection, task_named
from foundation.storage import atomic_path
from inference_graph.contract import LADDER

_SIDES = {"old": "Held-out old frames", "new": "Held-out new frames, labelled by large"}
_COLOURS = {CHAMPION: "#5b6770", CHALLENGER: "#0b6e4f", AT_EQUAL_LATENCY: "#b0b7bd"}
_MEANINGS = {
    "old_change_low": "forgets nothing: lower end of the change on old frames",
    "new_change_low": "is better: lower end of the change on new frames",
    "new_latency_ratio": "is not dear: mean latency on new frames over large's",
}


def write_retraining(record: Mapping[str, Any], path: Path, evaluation: str) -> None:
    """Draw the page from what ``report.json`` holds under ``challenge``.

    Args:
        record: verdict, sides, harvest, feedback.
        path: the page.
        evaluation: file name of the challenger's own report, beside the page.
    """
    text = page(
        "Champion and challenger",
        _headline(record, evaluation),
        section("What decided", _checks(record)),
        section("Accuracy against latency", chart(_figure(record), "challenge")),
        *(
            section(
                _SIDES[side["name"]],
                _side(side, record["config"]["confidence"], _task(record).measure),
            )
            for side in record["sides"]
        ),
        section("The new data", _data(record)),
    )
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _headline(record: Mapping[str, Any], evaluation: str) -> Markup:
    return html(
        "<p><strong>{{ outcome }}</strong>.</p>{% if not held_out %}<p>What the champion learned "
        "from is not known, so the old frames here may be among it, which favours the champion."
        "</p>{% endif %}<p>The challenger alone, against every alternative: "
        '<a href="{{ file }}">{{ file }}</a>.</p>',
        outcome=record["outcome"],
        held_out=record["old_data_held_out_from_champion"],
        file=evaluation,
    )


def _checks(record: Mapping[str, Any]) -> Markup:
    rows = [
        (
            _MEANINGS.get(check["name"], check["name"]),
            _number(check["value"]),
            f"{check['relation']} {check['threshold']:.4g}",
            "yes" if check["passed"] else "NO",
        )
        for check in record["verdict"]["checks"]
    ]
    rows.append(("passed the release gate", "", "", "yes" if record["gate_passed"] else "NO"))
    return table(("the challenger", "is", "must be", "passed"), rows)


def _task(record: Mapping[str, Any]) -> Task:
    return task_named(record.get("task", detection.TASK.name))


def _side(side: Mapping[str, Any], confidence: float, measure: str) -> Markup:
    if not side["frames"]:
        return paragraph("Too few clips were held out to compare on.")
    rows = [
        (
            name,
            _share(row["retained"]),
            _interval(row["retained_interval"]),
            _number(row["map"]),
            _share(row["latency_ratio"]),
            *(_share(row["shares"][rung], 0) for rung in LADDER),
        )
        for name, row in side["rows"].items()
    ]
    header = ("", "retained", f"{confidence:.0%} interval", measure, "latency", *LADDER)
    about = html(
        "<p>{{ frames }} Challenger less champion: <strong>{{ change }}</strong> {{ more }}</p>",
        frames=f"{side['frames']:,} frames of {side['clips']:,} clips.",
        change=_points(side["change"]),
        more=f"({_interval(side['change_interval'])}); less the champion at the challenger's "
        f"latency: {_points(side['change_at_equal_latency'])} "
        f"({_interval(side['change_at_equal_latency_interval'])}). Both choose the same rung on "
        f"{_share(side['agreement'], 0)} of the frames.",
    )
    return about + table(header, rows)


def _data(record: Mapping[str, Any]) -> Markup:
    harvest, feedback = record["harvest"], record["feedback"]
    sources = ", ".join(f"{count:,} {source}" for source, count in harvest["labelled"].items())
    about = paragraph(
        f"{harvest['images']:,} frames of {harvest['clips']:,} clips were kept of "
        f"{harvest['answered']:,} answers between {harvest['first']} and {harvest['last']}; labels "
        f"of large by source: {sources}. These labels say what large finds, not what is there: "
        "what large misses in the new conditions they cannot show."
    )
    if feedback is None:
        return about
    return about + paragraph(
        f"Approved feedback: {feedback['added']:,} pictures added, objects of "
        f"{feedback['replaced']:,} replaced."
    )


def _figure(record: Mapping[str, Any]) -> go.Figure:
    figure = go.Figure()
    for side, symbol in zip(record["sides"], ("circle", "star"), strict=True):
        for name, row in side["rows"].items():
            figure.add_scatter(
                x=[row["latency_ratio"]],
                y=[row["retained"]],
                mode="markers",
                name=f"{name}, {side['name']}",
                marker={"symbol": symbol, "size": 13, "color": _COLOURS.get(name, "#56b4e9")},
                showlegend=name in _COLOURS,
                hovertemplate="%{fullData.name}: %{y:.1%} at %{x:.1%}<extra></extra>",
            )
    figure.update_layout(
        template="plotly_white",
        height=460,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        xaxis_title="mean latency over always-large's",
        yaxis_title=f"{_task(record).measure} over always-large's",
        xaxis_tickformat=".0%",
        yaxis_tickformat=".1%",
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def _share(value: float | None, digits: int = 1) -> str:
    return "not measured" if value is None else f"{value:.{digits}%}"


def _points(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.2%}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _interval(ends: Any) -> str:
    low, high = ends
    return "no interval" if low is None else f"{low:.2%} to {high:.2%}"
