"""The README's table of what routing is worth, from a run's report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.errors import InvalidInput
from foundation.storage import atomic_path

SHOWN = ("always-large", "always-small", "always-nano", "gearshift", "oracle")
_PLACE = re.compile(r"(<!-- headline: [^>]*-->\n).*?(<!-- /headline -->)", re.DOTALL)


def write_headline(readme: Path, report: Path) -> str:
    """Put the figures of a report into a document, between its comments.

    Args:
        readme: holds ``<!-- headline: … -->`` and ``<!-- /headline -->``.
        report: report.json.

    Returns:
        The text between the comments.

    Raises:
        InvalidInput: a file cannot be read, or the document has no place for it.
    """
    try:
        text, figures = readme.read_text("utf-8"), json.loads(report.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {readme} and {report}: {error}") from error
    if not _PLACE.search(text):
        raise InvalidInput(f"{readme} has no <!-- headline --> and <!-- /headline -->")
    shown = headline(figures)
    with atomic_path(readme) as partial:
        partial.write_text(_PLACE.sub(lambda at: at[1] + shown + at[2], text), encoding="utf-8")
    return shown


def headline(report: Mapping[str, Any]) -> str:
    """The table and a sentence, as Markdown."""
    rows = {row["name"]: row for row in report["rows"]}
    lines = [
        "| | mAP50-95 | retained | lift over the hull | mean ms | p95 ms | USD per million |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lift = report["lift"]["over_hull"]
    for name in SHOWN:
        row = rows[name]
        bold = "**" if name == "gearshift" else ""
        gained = _interval(lift) if name == "gearshift" else ""
        lines.append(
            f"| {bold}{name}{bold} | {row['map']:.3f} | {row['retained']:.1%} | {gained} | "
            f"{row['mean_ms']:.1f} | {row['p95_ms']:.1f} | {row['usd_per_million']:.2f} |"
        )
    best, over = report["lift"]["rule"], report["lift"]["over_rule"]
    gate = report.get("gate") or {}
    failed = [check["name"] for check in gate.get("checks", ()) if not check["passed"]]
    verdict = f"The gate refuses it: {', '.join(failed)}." if failed else "It passes the gate."
    ruled = f" Its lift over the best rule, `{best}`, is {_interval(over)}." if best else ""
    return (
        "\n".join(lines)
        + f"\n\nThe policy runs at {report['latency_ratio']:.1%} of large's mean latency.{ruled} "
        + f"{verdict}\n"
    )


def _interval(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "not measured"
    value, low, high = (100 * float(figure[key]) for key in ("value", "low", "high"))
    return f"{value:+z.1f} points (95 % interval {low:+z.1f} to {high:+z.1f})"
