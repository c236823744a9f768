"""The evaluation report as a page: charts first, then every figure behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.evaluation.example_frames import ExampleFrame
from components.evaluation.report_charts import (
    beyond_the_chart,
    confusion_chart,
    curve_chart,
    pareto_chart,
    shares_chart,
)
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
        section(
            "Accuracy against latency",
            chart(pareto_chart(report), "pareto"),
            beyond_the_chart(report),
        ),
        *([section(f"Three {task.item} to look at", _pictures(examples))] if examples else ()),
        section("All ways to route, at equal mean latency", _rows_table(report)),
        *([section("With a tracker", tracked_section(report))] if report.get("tracked") else ()),
        section("One policy, every operating point", chart(curve_chart(report), "curve")),
        section(
            f"Where {task.item} go",
            chart(shares_chart(report), "shares"),
            _groups_table(report),
            gears_table(report),
        ),
        section(task.parts_title, classes_table(report)),
        section("Against the optimal labels", chart(confusion_chart(report), "confusion")),
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
