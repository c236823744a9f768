"""Tables of the report's page, and how its figures are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.page import html, paragraph, section, table
from foundation.storage import atomic_path

GATE_MARK = html("<!-- the release gate -->")
"""Where a page takes up the gate's verdict, which comes after it."""


def add_gate(page: Path, gate: Mapping[str, Any]) -> None:
    """Write the checklist into a report's page, in the gate's own words.

    Args:
        page: ``report.html``; replaced by a new file.
        gate: the content of ``gate.json``.
    """
    rows = [
        (
            check["name"],
            number(check["value"], ".4g"),
            f"{check['relation']} {check['threshold']:.4g}",
            "pass" if check["passed"] else "fail",
        )
        for check in gate["checks"]
    ]
    verdict = "passed" if gate["passed"] else "refused"
    found = section(f"Release gate: {verdict}", table(("check", "value", "must be", ""), rows))
    text = page.read_text(encoding="utf-8").replace(GATE_MARK, found)
    with atomic_path(page) as partial:
        partial.write_text(text, encoding="utf-8")


def gears_table(report: Mapping[str, Any]) -> Markup:
    """Use and gain of each rung."""
    rows = [
        (rung, percent(gear["share"]), number(gear["gain"], "+.4f"))
        for rung, gear in report["gears"].items()
    ]
    about = "A rung whose gain is below zero should have left its frames to the best other rung."
    return paragraph(about) + table(("", "frames", "gain"), rows)


def classes_table(report: Mapping[str, Any]) -> Markup:
    """Accuracy of each class that has objects."""
    rows = [
        (name, f"{one['objects']:,}", number(one["ap"], ".3f"), percent(one["retained"]))
        for name, one in report["classes"].items()
        if one["objects"]
    ]
    return table(
        ("", "count", report.get("measure", "mAP50-95").replace("mAP", "AP"), "retained"), rows
    )


def tracked_section(report: Mapping[str, Any]) -> Markup:
    """Every way to route with a tracker behind it."""
    tracked = report["tracked"]
    rows = [
        (
            row["name"],
            percent(row["retained"]),
            " to ".join(percent(end) for end in row["retained_interval"]),
            f"{row['mean_ms']:.1f}",
            percent(row["latency_ratio"]),
        )
        for row in tracked["rows"]
    ]
    about = (
        "The same routings, their answers fused over the frames of each clip. The tracker takes "
        f"{tracked['tracker_ms']:.2f} ms, which every row pays. The tracked policy is "
        f"{difference(tracked['over_hull'])} above fixed rungs and mixes without a tracker, and "
        f"{difference(tracked['over_tracked_hull'])} above those with one."
    )
    reuse = tracked["reuse"]
    if reuse["longest"]:
        row, again = reuse["row"], percent(reuse["share"])
        about += (
            f" Where it may answer {again} of the frames by its tracks alone, without a look, it "
            f"keeps {percent(row['retained'])} at {percent(row['latency_ratio'])}: "
            f"{difference(reuse['over_tracked_hull'])} above fixed rungs and mixes with a tracker."
        )
    else:
        about += " Answering frames by the tracks alone did not pay on the frames to learn from."
    header = ("", "retained", "95 % interval", "mean ms", "latency")
    return paragraph(about) + table(header, rows, highlighted="gearshift")


def difference(estimate: Mapping[str, Any]) -> str:
    """A difference in accuracy retained with its interval."""
    return interval(estimate, "+.3f")


def interval(estimate: Mapping[str, Any], form: str) -> str:
    """A figure with its interval, where it has one."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if low is None or high is None:
        return number(value, form)
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def percent(value: float | None) -> str:
    """A share in percent."""
    return number(value, ".1%")


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where it does not exist."""
    return "–" if value is None or value != value else format(value, form)
