"""The drift report as a page: the decision, its evidence, and every figure before and now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from components.drift.frames import Frames
from components.drift.reference import Reference
from components.page import chart, html, page, paragraph, section, table
from feature_transformer.frame_statistics import STATISTICS
from inference_graph.contract import LADDER
from inference_graph.control.drift_state import WORDS

_BEFORE, _NOW = "#8a97a5", "#0b6e4f"
_MARKS = {"none": "✓", "watch": "!", "retrain": "✕", "unknown": "?"}
_POINTS = 200


def write_page(
    report: Mapping[str, Any], reference: Reference, window: Frames, path: Path, tabular: str
) -> None:
    """Draw the page.

    Args:
        report: the content of ``report.json``.
        reference: what is usual.
        window: what was examined.
        path: the file to write.
        tabular: name of Evidently's page beside it; empty where there is none.
    """
    tests = [_tests(report)]
    if tabular:
        tests.append(
            html(
                "<p>Every figure in a table, by Evidently: "
                '<a href="{{ file }}">{{ file }}</a>.</p>',
                file=tabular,
            )
        )
    shown = reference.frames, window
    text = page(
        "Drift report",
        _verdict(report),
        section("Does it hurt?", *_harm(report)),
        section("Every test", *tests),
        section("Inputs, before and now", chart(_distributions(*shown), "inputs")),
        section("Outputs, before and now", chart(_outputs(reference, window), "outputs")),
        section("What was compared", _compared(report)),
    )
    path.write_text(text, encoding="utf-8")


def _verdict(report: Mapping[str, Any]) -> Markup:
    decision = report["decision"]
    return html(
        "<p><strong>{{ verdict }}.</strong> {{ sentence }}</p>"
        "<ul>{% for line in evidence %}<li>{{ line }}</li>{% endfor %}</ul>"
        "{% for note in notes %}<p>{{ note }}</p>{% endfor %}",
        verdict=f"{_MARKS[decision]} {WORDS[decision].capitalize()}",
        sentence=report["sentence"],
        evidence=report["evidence"],
        notes=report["notes"],
    )


def _harm(report: Mapping[str, Any]) -> tuple[Markup, ...]:
    harm = report["harm"]
    rows = [
        (
            name,
            _percent(side["share"]),
            _interval(side["low"], side["high"]),
            f"{side['shadowed']:,}",
            f"{side['clusters']:,} {side['unit']}",
        )
        for name, side in (("reference", harm["reference"]), ("window", harm["window"]))
    ]
    rows.append(("loss", _percent(harm["loss"]), _interval(harm["low"], harm["high"]), "", ""))
    header = ("accuracy retained", "share", "95 % interval", "shadows", "clusters")
    return table(header, rows), paragraph(
        "Large looks at a sampled share of frames too; this is how much of what it sees the "
        "answers keep. It needs no labels, and says nothing of what large itself misses."
    )


def _tests(report: Mapping[str, Any]) -> Markup:
    rows = [
        (
            one["name"].replace("_", " "),
            one["kind"],
            one["method"],
            _number(one["statistic"]),
            _number(one["p_value"]),
            _number(one["level"]),
            f"{one['reference_frames']} / {one['window_frames']}",
            "drift" if one["drifted"] else "",
            one["change"],
        )
        for one in report["comparisons"]
    ]
    header = ("figure", "kind", "test", "statistic", "p", "counts from", "frames", "", "change")
    return table(header, rows)


def _distributions(reference: Frames, window: Frames) -> go.Figure:
    """Cumulative shares: the very curves whose largest distance the test measures."""
    figure = make_subplots(rows=2, cols=2, subplot_titles=[n.replace("_", " ") for n in STATISTICS])
    for index in range(len(STATISTICS)):
        place = {"row": index // 2 + 1, "col": index % 2 + 1}
        for name, colour, frames in _sides(reference, window):
            _add_cumulative(figure, frames.statistics[:, index], name, colour, index == 0, place)
    return _styled(figure, 620)


def _outputs(reference: Reference, window: Frames) -> go.Figure:
    titles = ["objects a frame", "confidence", "rungs", "classes"]
    figure = make_subplots(rows=2, cols=2, subplot_titles=titles)
    held_out = reference.frames.take(reference.frames.held_out)
    width = max(held_out.classes.shape[1], window.classes.shape[1])
    names = [*reference.class_names, *(f"class {n}" for n in range(width))][:width]
    for name, colour, frames in _sides(held_out, window):
        _add_cumulative(figure, frames.objects, name, colour, True, {"row": 1, "col": 1})
        _add_cumulative(figure, frames.confidence, name, colour, False, {"row": 1, "col": 2})
        rung = frames.rung[frames.answered]
        rungs = np.bincount(rung, minlength=len(LADDER)) / max(len(rung), 1)
        classes = frames.classes.sum(axis=0, dtype=np.float64)
        classes = np.pad(classes, (0, width - len(classes))) / max(classes.sum(), 1.0)
        for labels, values, column in ((LADDER, rungs, 1), (names, classes, 2)):
            figure.add_bar(
                x=list(labels),
                y=values.tolist(),
                name=name,
                marker_color=colour,
                showlegend=False,
                row=2,
                col=column,
            )
    return _styled(figure, 620)


def _sides(reference: Frames, window: Frames) -> tuple[tuple[str, str, Frames], ...]:
    return ("reference", _BEFORE, reference), ("window", _NOW, window)


def _add_cumulative(
    figure: go.Figure,
    values: NDArray[np.float64],
    name: str,
    colour: str,
    legend: bool,
    place: Mapping[str, int],
) -> None:
    known = values[np.isfinite(values)]
    if not len(known):
        return
    shares = np.linspace(0, 1, _POINTS)
    figure.add_scatter(
        x=np.quantile(known, shares).tolist(),
        y=shares.tolist(),
        name=name,
        mode="lines",
        line={"color": colour, "dash": "dot" if name == "reference" else "solid"},
        showlegend=legend,
        **place,
    )


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 50, "r": 20, "t": 40, "b": 40},
        legend={"orientation": "h", "y": -0.08},
        barmode="group",
    )
    return figure


def _compared(report: Mapping[str, Any]) -> Markup:
    window, reference = report["window"], report["reference"]
    span = f"{window['since']} to {window['until']}" if window["since"] else "nothing was logged"
    return html(
        "<p>{{ window }} Reference <code>{{ name }}</code>: {{ reference }}</p><p>{{ alarms }}</p>",
        window=f"Window: {window['frames']:,} answers of {window['streams']:,} streams ({span}); "
        f"one frame of {window['spacing']} counts as independent.",
        name=reference["name"],
        reference=f"{reference['frames']:,} frames of {reference['streams']:,} clips or streams, "
        f"{reference['held_out']:,} of them held out; one of {reference['spacing']}.",
        alarms="All tests together raise a false alarm with a chance of "
        f"{report['config']['alpha']:.1%} at most.",
    )


def _percent(value: float | None) -> str:
    return "not known" if value is None or value != value else f"{value:.1%}"


def _interval(low: float | None, high: float | None) -> str:
    known = low is not None and high is not None and low == low and high == high
    return f"{low:.1%} to {high:.1%}" if known else "none"


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3g}"
