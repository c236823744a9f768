"""Lists of experiments as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from components.experiments.query import ExperimentRow
from components.experiments.resolve import Difference
from components.experiments.results import FigurePair, ResultDifferences

COLUMNS = (
    "name",
    "parent",
    "author",
    "objective",
    "hypothesis",
    "expected",
    "state",
    "outcome",
    "reason",
    "retained",
    "latency_ratio",
    "ended",
    "tags",
    "changes",
)
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")


def rows_csv(rows: Sequence[ExperimentRow]) -> str:
    """Rows as CSV with a heading; no cell is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_plain(cell) for cell in _cells(row)])
    return text.getvalue()


def rows_markdown(rows: Sequence[ExperimentRow]) -> str:
    """Rows as a table in Markdown."""
    return _table(COLUMNS, [_cells(row) for row in rows])


def differences_markdown(
    first: str, second: str, found: Sequence[Difference], results: ResultDifferences
) -> str:
    """What two experiments do not share and what came of them, as tables in Markdown."""
    options = _table(
        ("option", first, second),
        [(one.path, shown(one.first), shown(one.second)) for one in found],
    )
    if not results.figures:
        return options
    launches = [launch.attempt if launch else "" for launch in (results.first, results.second)]
    verdicts = [launch.verdict if launch else "" for launch in (results.first, results.second)]
    figures = _table(
        ("metric", *launches, "change"),
        [("outcome", *verdicts, ""), *(figure_cells(one) for one in results.figures)],
    )
    return f"{options}\n{figures}"


def figure_cells(pair: FigurePair) -> tuple[str, str, str, str]:
    """Metric, both figures and the change, as text; empty where one is missing."""
    first, second = ("" if one is None else f"{one:.4g}" for one in (pair.first, pair.second))
    return pair.metric, first, second, "" if pair.change is None else f"{pair.change:+.4g}"


def shown(value: object) -> str:
    """A value as people write it in the file."""
    if isinstance(value, list):
        return "[" + ", ".join(shown(one) for one in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _cells(row: ExperimentRow) -> tuple[str, ...]:
    def figure(name: str) -> str:
        return f"{row.figures[name]:.6g}" if name in row.figures else ""

    changes = "; ".join(f"{path}={shown(value)}" for path, value in row.changes.items())
    return (
        row.name,
        row.parent,
        row.author,
        row.objective,
        row.hypothesis,
        row.expected,
        row.state,
        row.outcome,
        row.reason,
        figure("retained"),
        figure("latency_ratio"),
        row.ended,
        " ".join(row.tags),
        changes,
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split())


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_DANGEROUS) else cell
