"""A data set in numbers and charts, from ``validation.json``: parts of a page, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from components.page import MUTED, chart, html, page, paragraph, section, table
from feature_transformer.makers import DETECTION

_CATEGORIES_SHOWN = 40
_COLOURS = {"sparse": "#4c9f70", "moderate": "#e0a030", "dense": "#b8405e"}
_MAIN_COLOUR = "#3b6ea5"


def html_report(statistics: Mapping[str, Any], *further: Markup) -> str:
    """Draw the page from the content of ``validation.json``.

    Args:
        statistics: that content.
        further: parts that stand between the main numbers and the charts; a part whose id is
            ``anomaly-KIND`` is linked where the kind is listed.
    """
    _, objects, drawn_boxes = _terms(statistics)
    charts = (
        ("Categories", _categories_chart(statistics)),
        ("Scene types by condition", _scenes_chart(statistics)),
        (f"{objects.capitalize()} per image", _objects_chart(statistics)),
        *((("Box size", _sides_chart(statistics)),) if drawn_boxes else ()),
        ("Brightness", _brightness_chart(statistics)),
    )
    drawn = [
        section(title, chart(figure, f"chart-{number}"))
        for number, (title, figure) in enumerate(charts)
    ]
    numbers = table(("", ""), facts(statistics))
    worth_a_look = section("Worth a look", _anomalies_html(statistics, bool(further)))
    return page("Data report", numbers, worth_a_look, *further, *drawn)


def markdown_report(statistics: Mapping[str, Any]) -> str:
    """Return the main numbers and the oddities as Markdown, for the pipeline's interface."""
    lines = ["# Data report", "", "| | |", "|---|---:|"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts(statistics)]
    lines += ["", "## Worth a look", ""]
    if statistics["anomalies"]:
        lines += ["| what | how many | first |", "|---|---:|---|"]
        lines += [
            f"| {_cell(anomaly['meaning'])} | {anomaly['count']} | "
            f"{_cell(json.dumps(anomaly['examples'][:1]))} |"
            for anomaly in statistics["anomalies"]
        ]
    else:
        lines += ["Nothing."]
    lines += [
        "",
        "## Categories",
        "",
        f"| category | {_terms(statistics)[0]} | images | ladder |",
        "|---|---:|---:|---|",
    ]
    lines += [
        f"| {_cell(row['name'])} | {row['annotations']} | {row['images']} | {_known(row)} |"
        for row in statistics["categories"]
        if row["annotations"]
    ]
    return "\n".join(lines) + "\n"


def _terms(statistics: Mapping[str, Any]) -> tuple[str, str, bool]:
    """What annotations and what they mark are called, and whether the size of boxes matters."""
    detects = statistics.get("task", DETECTION) == DETECTION
    return ("boxes", "objects", True) if detects else ("texts", "texts", False)


def facts(statistics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The main numbers: what they are, and their value in words."""
    counts, side = statistics["objects_per_image"], statistics["box_side"]
    boxes, objects, drawn_boxes = _terms(statistics)
    crowds = "crowds" if drawn_boxes else "illegible"
    used = sum(row["annotations"] > 0 for row in statistics["categories"])
    found = [
        ("images", f"{statistics['images']:,}"),
        ("clips · stills", f"{statistics['clips']:,} · {statistics['stills']:,}"),
        (
            f"{boxes} (of these {crowds})",
            f"{statistics['annotations']:,} ({statistics['crowd']:,})",
        ),
        ("categories listed · in use", f"{len(statistics['categories'])} · {used}"),
        (f"images without {objects}", f"{statistics['images_without_objects']:,}"),
        (f"{objects} per image: median · mean · most", _three(counts, "p50", "mean", "max")),
    ]
    if drawn_boxes:
        found.append(
            ("box side in pixels: 10 % · median · 90 %", _three(side, "p10", "p50", "p90"))
        )
    found += [(f"{name} scenes", f"{count:,}") for name, count in statistics["scene_types"].items()]
    if statistics["known_share"] is not None:
        found.append(
            (f"{boxes} of categories the ladder knows", f"{statistics['known_share']:.1%}")
        )
    found += [
        (f"left out by ingest: {kind}", f"{count:,}")
        for kind, count in statistics["dropped"].items()
    ]
    return found


def _three(spread: Mapping[str, float], *names: str) -> str:
    return " · ".join(f"{spread[name]:.3g}" for name in names)


def imbalance_chart(ours: Mapping[str, float], at_random: Mapping[str, float]) -> go.Figure:
    """How unevenly a split shares out each kind of slice, beside splits at random."""
    figure = go.Figure()
    for name, values, colour in (
        ("at random", at_random, MUTED),
        ("this split", ours, _MAIN_COLOUR),
    ):
        figure.add_bar(x=list(values), y=list(values.values()), name=name, marker_color=colour)
    figure.update_xaxes(type="category")
    return _finish(figure, "slices by", "distance of the worst part")


def _anomalies_html(statistics: Mapping[str, Any], linked: bool) -> Markup:
    if not statistics["anomalies"]:
        return paragraph("Nothing.")
    return html(
        '<table><tr><th scope="col">what</th><th scope="col">how many</th>'
        '<th scope="col">first</th></tr>{% for one in anomalies %}<tr><td>'
        '{% if linked %}<a href="#anomaly-{{ one.kind }}">{{ one.meaning }}</a>'
        "{% else %}{{ one.meaning }}{% endif %}</td>"
        '<td class="number">{{ one.count }}</td><td><code>{{ one.first }}</code></td></tr>'
        "{% endfor %}</table>",
        linked=linked,
        anomalies=[
            {
                "kind": anomaly["kind"],
                "meaning": anomaly["meaning"],
                "count": f"{anomaly['count']:,}",
                "first": json.dumps(anomaly["examples"][:3]),
            }
            for anomaly in statistics["anomalies"]
        ],
    )


def _categories_chart(statistics: Mapping[str, Any]) -> go.Figure:
    rows = [row for row in statistics["categories"] if row["annotations"]][:_CATEGORIES_SHOWN]
    figure = go.Figure()
    groups = (
        (True, "the ladder knows it"),
        (False, "unknown to the ladder"),
        (None, _terms(statistics)[0]),
    )
    for known, name in groups:
        members = [row for row in rows if row["known"] is known]
        if members:
            figure.add_bar(
                x=[row["name"] for row in members],
                y=[row["annotations"] for row in members],
                name=name,
                marker_color="#9aa5b1" if known is False else _MAIN_COLOUR,
            )
    figure.update_xaxes(
        type="category", categoryorder="array", categoryarray=[row["name"] for row in rows]
    )
    return _finish(figure, "category", _terms(statistics)[0])


def _scenes_chart(statistics: Mapping[str, Any]) -> go.Figure:
    conditions = statistics["scene_types_by_condition"]
    figure = go.Figure()
    for scene_type, colour in _COLOURS.items():
        counts = [row[scene_type] for row in conditions.values()]
        figure.add_bar(x=list(conditions), y=counts, name=scene_type, marker_color=colour)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(type="category")
    return _finish(figure, "condition", "images")


def _objects_chart(statistics: Mapping[str, Any]) -> go.Figure:
    counts = statistics["objects_per_image_counts"]
    figure = go.Figure(go.Bar(x=list(range(len(counts))), y=counts, marker_color=_MAIN_COLOUR))
    return _finish(figure, f"{_terms(statistics)[1]} in the image", "images")


def _sides_chart(statistics: Mapping[str, Any]) -> go.Figure:
    bins = statistics["box_side_histogram"]
    names = [f"{b['from']:g} to {b['to']:g}" if b["to"] else f"{b['from']:g} +" for b in bins]
    return _bars(names, bins, "square root of the box area in pixels", "boxes")


def _brightness_chart(statistics: Mapping[str, Any]) -> go.Figure:
    bins = statistics["brightness_histogram"]
    names = [f"{b['from']:.2f} to {b['to']:.2f}" for b in bins]
    return _bars(names, bins, "mean grey value (0 black, 1 white)", "images")


def _bars(
    names: Sequence[str], bins: Sequence[Mapping[str, Any]], x_title: str, y_title: str
) -> go.Figure:
    heights = [b["count"] for b in bins]
    figure = go.Figure(go.Bar(x=list(names), y=heights, marker_color=_MAIN_COLOUR))
    figure.update_xaxes(type="category")
    return _finish(figure, x_title, y_title)


def _finish(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=340,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        xaxis_title=x_title,
        yaxis_title=y_title,
    )
    return figure


def _cell(text: str) -> str:
    # Markdown renders HTML, so names from the data must not bring any along.
    return escape(str(text), quote=False).replace("|", "\\|").replace("\n", " ")


def _known(row: Mapping[str, Any]) -> str:
    if row["class"] not in (None, row["name"]):
        return _cell(f"yes, as {row['class']}")
    return {True: "yes", False: "no", None: ""}[row["known"]]
