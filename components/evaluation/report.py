"""The evaluation report as a page: charts first, then every figure behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from components.evaluation.example_frames import ExampleFrame
from components.evaluation.report_tables import (
    GATE_MARK,
    classes_table,
    difference,
    gears_table,
    interval,
    number,
    percent,
    tracked_section,
)
from components.page import (
    MUTED,
    OURS,
    RUNG_COLOURS,
    chart,
    html,
    page,
    paragraph,
    scrolled,
    section,
    table,
)
from components.tasks import Task, task_named
from feature_transformer.makers import DETECTION
from inference_graph.contract import LADDER

_TEMPLATE = "plotly_white"
_SYMBOLS = {
    "random-mix": "circle-open",
    "edge-density": "diamond",
    "object-count": "square",
    "cascade": "triangle-up",
    "previous-frame": "cross",
    "bc": "star-triangle-down",
}


_WHY = {
    "bc": "That is the policy before PPO: with no queue shared, PPO has little left to find.",
    "object-count": "It sees the same previous look; on so few clips its one number misleads less.",
    "cascade": "It pays for nano on every frame, and knows the frame itself, not the one before.",
    "random-mix": "The observation holds too little about which frames need a heavier rung.",
    "edge-density": "Its one number tells hard frames from easy ones.",
    "previous-frame": "So little moved that an old answer was nearly as good as a new one.",
}
_OF_CLIPS = ("previous-frame", "object-count")
"""Alternatives that depend on the frame before, which a still does not have."""
_SAME_LATENCY = 1.01
"""A curve whose cheapest point is dearer than this much of a latency is not to be had there."""


_WORDS = {
    "retained": "Accuracy of the routed answers over that of large on every frame.",
    "hull": "The best that fixed rungs and random mixes of them reach at each mean latency.",
    "oracle": "Knows the answer of every rung beforehand; no policy can be better.",
    "lift": "Accuracy retained less that of the hull, or of a rule, at the same mean latency.",
    "share of the gap": "(policy − hull) / (oracle − hull) at one mean latency: 0 is no better "
    "than mixing at random, 1 is the oracle.",
    "gain": "Mean reward on the frames a rung was chosen for, less that of the best other rung on "
    "all of them.",
    "APGR": "Average performance gap recovered over the operating points, from nano to large.",
    "95 % interval": "From resamples of whole clips, the same for every way to route.",
    "regret": "Reward of the best rung for a frame, less that of the chosen one.",
    "latency weight": "What latency weighs in the reward: one policy serves all of them.",
    "bc": "The policy as cloned from the optimal labels, before PPO.",
    "cascade": "Asks nano first, and a heavier rung where nano is unsure.",
    "oric, tod, ecore, rams": "Rules in the manner of published routers, on the same detections.",
}


def write_report(
    report: Mapping[str, Any], path: Path, examples: Sequence[ExampleFrame] = ()
) -> None:
    """Draw the page from the content of ``report.json`` and frames to look at."""
    task = _task(report)
    text = page(
        "Routing report",
        _headline(report),
        GATE_MARK,
        section("Accuracy against latency", chart(_pareto(report), "pareto"), _outside(report)),
        *([section(f"Three {task.item} to look at", _pictures(examples))] if examples else ()),
        section("All ways to route, at equal mean latency", _rows_table(report)),
        *([section("With a tracker", tracked_section(report))] if report.get("tracked") else ()),
        section("One policy, every operating point", chart(_curve(report), "curve")),
        section(
            f"Where {task.item} go",
            chart(_shares(report), "shares"),
            _groups_table(report),
            gears_table(report),
        ),
        section(task.parts_title, classes_table(report)),
        section("Against the optimal labels", chart(_confusion(report), "confusion")),
        section("Cameras that share their detectors", _fleets_section(report)),
        section("Cloning and PPO, seed by seed", _seeds_table(report)),
        section("How it was measured", _measurement(report)),
        section("Words", _words(task)),
    )
    path.write_text(text, encoding="utf-8")


def who_wins(report: Mapping[str, Any]) -> str:
    """One sentence: which alternative is ahead at the policy's latency, if any."""
    ours, ratio = report["retained"], report["latency_ratio"]
    if ours is None or ours != ours:
        return "The large rung finds nothing on these frames, so no accuracy can be retained."
    others = {
        name: value
        for name, value in report["at_equal_latency"].items()
        if name != "oracle" and value is not None and _reaches(report, name, ratio)
    }
    if not others:
        return "No alternative is to be had at its latency."
    name, value = max(others.items(), key=lambda item: item[1])
    if ours >= value:
        return (
            f"Ahead of every alternative at its own latency; the next is {name}, "
            f"which keeps {value:.1%}."
        )
    why = "" if name in _OF_CLIPS and _only_stills(report) else _WHY.get(name, "")
    found = f"At this latency {name} wins: it keeps {value:.1%}, the policy {ours:.1%}."
    return f"{found} {why}".strip()


def _reaches(report: Mapping[str, Any], name: str, latency_ratio: float) -> bool:
    """Whether a curve goes down to a latency."""
    points = [point["latency_ratio"] for point in report["points"].get(name, ())]
    return bool(points) and min(points) <= _SAME_LATENCY * latency_ratio


def _measure(report: Mapping[str, Any]) -> str:
    """Name of the accuracy; reports of earlier versions are of detectors."""
    return str(report.get("measure", "mAP50-95"))


def _task(report: Mapping[str, Any]) -> Task:
    """The report's task; reports of earlier versions are of detectors."""
    return task_named(str(report.get("task", DETECTION)))


def _only_stills(report: Mapping[str, Any]) -> bool:
    return bool(report["data"]["frames"]["judge"] == report["data"]["clips"]["judge"])


def _headline(report: Mapping[str, Any]) -> Markup:
    lift, data, router = report["lift"], report["data"], report["router_ms"]
    task = _task(report)
    return html(
        "<p><strong>{{ kept }}</strong>: {{ lift }} {{ best }}</p><p>{{ certified }} {{ gap }}</p>"
        "<p>{{ judged }}</p>",
        kept=f"Keeps {percent(report['retained'])} of large's {_measure(report)} at "
        f"{report['latency_ratio']:.1%} of its mean latency",
        lift=f"{difference(lift['over_hull'])} above the fixed rungs and their random mixes, "
        f"{difference(lift['over_rule'])} above the best rule ({lift['rule']}) there.",
        best=who_wins(report),
        certified=_certified(report),
        gap=_shares_of_the_gap(report),
        judged=f"Judged on {data['frames']['judge']:,} held-out {task.item} of "
        f"{data['clips']['judge']:,} clips with {data['objects_judged']:,} {task.truths}; learned "
        f"from {data['frames']['learn']:,} {task.item}. Intervals are of 95 % over clips. The "
        f"router's own {router['observe']:.2f} ms to observe and {router['decide']:.2f} ms "
        "to decide are included.",
    )


def _certified(report: Mapping[str, Any]) -> str:
    floor = report["certified"]
    if floor is None:
        return "No accuracy can be certified on these frames."
    found = report["guarantee"]
    cheapest = (
        "no operating point is certified to retain"
        if found["latency_ratio"] is None
        else f"latency weight {found['latency_weight']:.3f}, at {found['latency_ratio']:.1%} of "
        "large's latency, is the cheapest operating point certified to retain"
    )
    return (
        f"At least {floor:.1%} is retained with {found['confidence']:.0%} confidence; {cheapest} "
        f"{found['asked']:.1%} (tests over clips, as in Learn then Test, arXiv 2110.01052)."
    )


def _shares_of_the_gap(report: Mapping[str, Any]) -> str:
    known = [one for one in report["gap_shares"] if one["share"]["value"] is not None]
    if not known:
        return "At none of the fixed latencies is there a gap that the policy goes down to."
    each = ", ".join(f"{one['share']['value']:.2f} at {one['latency_ratio']:.0%}" for one in known)
    return (
        "Of the gap between random mixes and the oracle it takes "
        f"{interval(report['mean_gap_share'], '.2f')} on average over fixed latencies ({each})."
    )


def _pictures(examples: Sequence[ExampleFrame]) -> Markup:
    explained = {
        "easiest": "The frame on which nano loses least against large.",
        "hardest": "The frame on which nano loses most against large.",
        "most regretted": "The frame on which another rung would have been worth most.",
    }
    figures = []
    for one in examples:
        qualities = ", ".join(f"{rung} {value:.3f}" for rung, value in one.quality.items())
        regret = (
            f"Best by reward as well (quality: {qualities})."
            if one.best == one.chosen
            else f"{one.best} was best, regret {one.regret:.3f} (quality: {qualities})."
        )
        figures.append(
            html(
                '<figure><img src="{{ picture }}" alt="{{ alt }}"><figcaption>'
                "<strong>{{ kind }}</strong>: {{ text }}</figcaption></figure>",
                picture=one.picture,
                alt=f"The {one.kind} one with the {one.objects} regions that {one.chosen} found",
                kind=one.kind.capitalize(),
                text=f"{explained[one.kind]} The policy chose {one.chosen}. {regret}",
            )
        )
    return html(
        '<div class="pictures">{% for figure in figures %}{{ figure }}{% endfor %}</div>',
        figures=figures,
    )


def _words(task: Task) -> Markup:
    return html(
        "<dl>{% for word, meaning in words.items() %}<dt>{{ word }}</dt><dd>{{ meaning }}</dd>"
        "{% endfor %}</dl>",
        words=_WORDS | {task.measure: task.definition},
    )


def _window(report: Mapping[str, Any]) -> tuple[float, float, float]:
    """Least accuracy, most accuracy and most latency that the chart shows.

    Hull, oracle and policy are in it whole; one alternative far from them would flatten the rest.
    """
    lines = [*report["hull"], *report["oracle_hull"], *report["curve"], report]
    kept = [p["retained"] for p in lines if _exists(p["retained"])]
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    room = 0.05 * max(high - low, 0.02)
    return low - room, high + room, 1.05 * max(1.0, *(p["latency_ratio"] for p in lines))


def _outside(report: Mapping[str, Any]) -> Markup:
    """Alternatives that have settings outside the chart, in words."""
    low, high, latest = _window(report)
    left = []
    for name, points in report["points"].items():
        count = sum(
            _exists(p["retained"])
            and not (low <= p["retained"] <= high and p["latency_ratio"] <= latest)
            for p in points
        )
        if count:
            left.append(f"{name} ({count} of {len(points)} settings)")
    return html(
        '{% if left %}<p class="note">Outside the chart: {{ left }}.</p>{% endif %}',
        left=", ".join(left),
    )


def _exists(value: float | None) -> bool:
    return value is not None and value == value


def _axes(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        template=_TEMPLATE,
        height=520,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        xaxis_title="mean latency over always-large's",
        yaxis_title="accuracy retained",
        xaxis_tickformat=".0%",
        yaxis_tickformat=".1%",
        legend={"orientation": "h", "y": -0.18},
    )
    return figure


def _pareto(report: Mapping[str, Any]) -> go.Figure:
    figure = go.Figure()
    for key, name, dash in (
        ("oracle_hull", "oracle", "dot"),
        ("hull", "fixed rungs and random mixes", "dash"),
    ):
        line = report[key]
        figure.add_scatter(
            x=[p["latency_ratio"] for p in line],
            y=[p["retained"] for p in line],
            mode="lines",
            name=name,
            line={"dash": dash, "color": MUTED},
        )
    for name, points in report["points"].items():
        if name in ("oracle", "gearshift"):
            continue
        figure.add_scatter(
            x=[p["latency_ratio"] for p in points],
            y=[p["retained"] for p in points],
            text=[p["name"] for p in points],
            mode="markers",
            name=name,
            marker={"symbol": _SYMBOLS.get(name, "circle"), "size": 8, "opacity": 0.7},
        )
    curve = report["curve"]
    figure.add_scatter(
        x=[p["latency_ratio"] for p in curve],
        y=[p["retained"] for p in curve],
        text=[f"latency weight {p['latency_weight']:.3f}" for p in curve],
        mode="lines+markers",
        name="gearshift",
        line={"color": OURS, "width": 3},
        marker={"size": 9},
    )
    figure.add_scatter(
        x=[report["latency_ratio"]],
        y=[report["retained"]],
        mode="markers",
        name="gearshift, operating point",
        marker={"symbol": "star", "size": 20, "color": OURS},
    )
    low, high, latest = _window(report)
    figure.update_yaxes(range=[low, high])
    figure.update_xaxes(range=[0, latest])
    return _axes(figure)


def _curve(report: Mapping[str, Any]) -> go.Figure:
    figure = go.Figure()
    weights = [p["latency_weight"] for p in report["curve"]]
    for key, name, colour in (
        ("retained", "accuracy retained", OURS),
        ("latency_ratio", "latency over always-large's", RUNG_COLOURS["large"]),
        ("gap_share", "share of the gap", RUNG_COLOURS["small"]),
    ):
        figure.add_scatter(
            x=weights,
            y=[p[key] for p in report["curve"]],
            mode="lines+markers",
            name=name,
            line={"color": colour},
        )
    figure.add_vline(
        x=report["latency_weight"],
        line_dash="dot",
        line_color=MUTED,
        annotation_text="operating point",
    )
    # A share of a narrow gap can be anything: it must not flatten the other two.
    shown = [p[key] for p in report["curve"] for key in ("retained", "latency_ratio", "gap_share")]
    kept = [min(max(value, -0.25), 1.25) for value in shown if _exists(value)]
    figure.update_yaxes(range=[min([0.0, *kept]) - 0.03, max([1.0, *kept]) + 0.03])
    figure.update_layout(
        template=_TEMPLATE,
        height=420,
        xaxis_title="latency weight (lambda)",
        xaxis_type="log",
        yaxis_tickformat=".0%",
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "y": -0.22},
    )
    return figure


def _shares(report: Mapping[str, Any]) -> go.Figure:
    groups = {**report["scene_types"], **report["conditions"]}
    figure = go.Figure()
    for rung in LADDER:
        figure.add_bar(
            y=list(groups),
            x=[group["shares"][rung] for group in groups.values()],
            name=rung,
            orientation="h",
            marker_color=RUNG_COLOURS[rung],
        )
    figure.update_layout(
        template=_TEMPLATE,
        barmode="stack",
        height=120 + 34 * len(groups),
        xaxis_tickformat=".0%",
        margin={"l": 90, "r": 20, "t": 20, "b": 40},
        yaxis={"autorange": "reversed"},
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def _confusion(report: Mapping[str, Any]) -> go.Figure:
    matrix = report["labels"]["confusion"]
    figure = go.Figure(
        go.Heatmap(
            z=matrix,
            x=list(LADDER),
            y=list(LADDER),
            colorscale="Blues",
            showscale=False,
            text=matrix,
            texttemplate="%{text}",
        )
    )
    labels = report["labels"]
    figure.update_layout(
        template=_TEMPLATE,
        height=380,
        xaxis_title="chosen",
        yaxis_title="optimal",
        yaxis={"autorange": "reversed"},
        margin={"l": 70, "r": 20, "t": 60, "b": 60},
        title=f"balanced accuracy {labels['balanced_accuracy']:.2f} "
        f"(always the same rung: {labels['majority_balanced_accuracy']:.2f}), "
        f"mean regret {labels['mean_regret']:.3f}",
        title_font_size=14,
    )
    return figure


def _rows_table(report: Mapping[str, Any]) -> Markup:
    apgr = report["apgr"]
    rows = [
        (
            row["name"],
            number(row["map"], ".3f"),
            percent(row["retained"]),
            " to ".join(percent(end) for end in row["retained_interval"]),
            f"{row['mean_ms']:.1f}",
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['p99_ms']:.1f}",
            f"{row['fps']:.1f}",
            f"{row['usd_per_million']:.3f}",
            number(apgr.get(row["name"]), ".3f"),
            _where(row, report),
        )
        for row in report["rows"]
    ]
    header = (
        "",
        _measure(report),
        "retained",
        "95 % interval",
        "mean ms",
        "p50",
        "p95",
        "p99",
        "FPS",
        "USD per million",
        "APGR",
        "at",
    )
    return table(header, rows, highlighted="gearshift")


def _where(row: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Whether a row stands at the policy's latency, or how far from it."""
    ratio = row["latency_ratio"] / report["latency_ratio"]
    return "this latency" if abs(ratio - 1) <= _SAME_LATENCY - 1 else f"{ratio:.2f} times this"


def _groups_table(report: Mapping[str, Any]) -> Markup:
    rows = [
        (
            name,
            f"{group['frames']:,}",
            percent(group["retained"]),
            percent(group["latency_ratio"]),
            *(percent(group["shares"][rung]) for rung in LADDER),
        )
        for name, group in {**report["scene_types"], **report["conditions"]}.items()
    ]
    return table(("", _task(report).item, "retained", "latency", *LADDER), rows)


def _fleets_section(report: Mapping[str, Any]) -> Markup:
    rows = [
        (f"{row['name']} × {row['cameras']}", f"{row['reward']:.4f}", percent(row["dropped"]))
        for row in report["fleets"]
    ]
    kept = report["refinement"]
    refined = bool(kept["refined"][kept["seeds"].index(kept["released"])])
    about = (
        "Mean reward per frame, and the share of frames dropped at the deadline, where so many "
        "cameras share one set of rungs: a decision costs the others. Each sees the queues that "
        f"those before it left. {load_verdict(report['load'], refined)}"
    )
    return paragraph(about) + table(("", "reward", "dropped"), rows)


def load_verdict(load: Mapping[str, Any], refined: bool) -> str:
    """Whether PPO earns its place: its gain over a congestion price that needs no training.

    Args:
        load: the report's comparison under load.
        refined: whether PPO made the released policy, which is the clone with its price otherwise.
    """
    low = load["over_price"]["low"]
    earns = refined and low is not None and low > 0
    kept = "PPO's policy" if refined else "the clone with its price"
    return (
        f"PPO {'earns' if earns else 'does not earn'} its place here: {kept} was kept, and "
        f"in fleets of {load['cameras']} it is {interval(load['over_price'], '+.4f')} in reward "
        f"above the clone with a congestion price of {load['price']:g}."
    )


def _seeds_table(report: Mapping[str, Any]) -> Markup:
    kept = report["refinement"]
    rows = [
        (
            f"seed {seed}{' (chosen)' if seed == kept['released'] else ''}",
            f"{kept['clone_reward'][i]:.4f}",
            f"{kept['refined_reward'][i]:.4f}",
            f"{kept['clone_fleet_reward'][i]:.4f}",
            f"{kept['refined_fleet_reward'][i]:.4f}",
            f"{kept['explained_variance'][i]:.2f}",
            "PPO" if kept["refined"][i] else "clone, price",
            percent(report["seeds"][i]["retained"]),
            percent(report["seeds"][i]["latency_ratio"]),
            number(report["seeds"][i]["gap_share"], ".2f"),
        )
        for i, seed in enumerate(kept["seeds"])
    ]
    header = (
        "",
        "clone",
        "PPO",
        "clone, fleets",
        "PPO, fleets",
        "critic's variance",
        "kept",
        "retained",
        "latency",
        "gap share",
    )
    about = "Mean validation reward before and after PPO; then held-out figures."
    return paragraph(about) + table(header, rows)


def _measurement(report: Mapping[str, Any]) -> Markup:
    facts = html(
        "<table>{% for name, value in facts.items() %}"
        '<tr><th scope="row">{{ name }}</th><td><code>{{ value }}</code></td></tr>'
        "{% endfor %}</table>",
        facts=report["measurement"],
    )
    return scrolled(facts, "How it was measured")
