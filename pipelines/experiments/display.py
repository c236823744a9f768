"""The ledger in the terminal: tables, a tree, and differences in red and green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from components.experiments.export import figure_cells, shown
from components.experiments.query import ExperimentRow
from components.experiments.resolve import DEFAULTS, Difference, Resolved
from components.experiments.results import ResultDifferences
from components.experiments.scoreboard import Scoreboard, Tally
from pipelines.cli.terminal import PlainConsole

_COLOURS = {
    "met": "green",
    "missed": "red",
    "void": "yellow",
    "failed": "red",
    "interrupted": "yellow",
    "running": "cyan",
    "queued": "cyan",
}
_WIDE = 140
"""Columns that a table of experiments needs."""


def print_rows(rows: Sequence[ExperimentRow]) -> None:
    """A line for each experiment: what it wants, where it stands, what came of it.

    Three lines where the terminal is too narrow for that.
    """
    if not rows:
        print("there is no such experiment")
        return
    out = _console()
    if out.width < _WIDE:
        for row in rows:
            state = _coloured("broken" if row.error else row.state)
            out.print(Text.assemble((row.name, "bold"), "  ", state, "  ", _coloured(row.outcome)))
            for line in (row.objective, row.error or row.reason):
                if line:
                    out.print(Padding(Text(line), (0, 0, 0, 2)))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("experiment", "extends", "author", "objective", "state", "outcome", "figures"):
        # A name is copied into the next command, so it stays in one piece.
        table.add_column(heading, overflow="fold", no_wrap=heading in ("experiment", "outcome"))
    for row in rows:
        table.add_row(
            escape(row.name),
            escape(row.parent),
            escape(row.author),
            escape(row.objective),
            _coloured("broken" if row.error else row.state),
            _coloured(row.outcome),
            escape(row.error or row.reason),
        )
    out.print(table)


def print_experiment(view: Mapping[str, Any], everything: bool) -> None:
    """Contract, configuration with origins, launches."""
    out = _console()
    line = " > ".join((*view["extends"], view["name"]))
    out.print(Text(line, style="bold"))
    out.print(Text(view["file"], style="dim"))
    contract = view["contract"]
    if contract is None:
        out.print("no contract: it is not launched before it has one", style="yellow")
    else:
        for name in ("objective", "hypothesis", "expected", "author"):
            out.print(Text.assemble((f"{name:<12}", "dim"), contract[name]))
    if view["notes"]:
        out.print(Text.assemble((f"{'notes':<12}", "dim"), view["notes"]))
    out.print()
    table = Table(box=None, pad_edge=False)
    for heading in ("option", "value", "from"):
        table.add_column(heading, overflow="fold")
    kept = 0
    for path, value in view["configuration"].items():
        own = value["from"] != DEFAULTS
        if own or everything:
            style = "green" if value["from"] == view["name"] else "" if own else "dim"
            table.add_row(
                Text(path, style), Text(shown(value["value"]), style), Text(value["from"], style)
            )
        else:
            kept += 1
    out.print(table)
    if kept:
        out.print(f"{kept} more stand at their defaults; --all shows them", style="dim")
    for launch in view["launches"]:
        print_launch(launch)


def print_launch(launch: Mapping[str, Any]) -> None:
    """Where a launch stands, what was expected and what came about."""
    out = _console()
    out.print()
    out.print(
        Text.assemble(
            (launch["attempt"], "bold"),
            "  ",
            (launch["state"], _COLOURS.get(launch["state"], "")),
            f"  on {launch['place']}, sealed {launch['sealed_at']} as {launch['sha256'][:12]}",
        )
    )
    if launch["verdict"]:
        out.print(Text.assemble("  expected  ", launch["expected"]))
        out.print(
            Text.assemble(
                "  actual    ",
                (launch["verdict"], _COLOURS.get(launch["verdict"], "")),
                f": {launch['reason']}",
            )
        )
    elif launch["reason"]:
        out.print(Text(f"  {launch['reason']}"))
    if launch["exit_code"] is not None:
        out.print(f"  exit code {launch['exit_code']}")
    if launch["failing_step"]:
        out.print(Text(f"  failing step {launch['failing_step']}, its log: {launch['log']}"))
    if launch["state"] == "running":
        at = [step["step"] for step in launch["steps"] if step["state"] == "running"]
        out.print(Text(f"  at {', '.join(at) or 'the start'}"))
    out.print(Text(f"  results {launch['out']}", style="dim"))
    if launch["kubeflow_run"]:
        place = f"{launch['kubeflow_url']}/#/runs/details/{launch['kubeflow_run']}"
        out.print(Text(f"  on Kubeflow {place}", style="dim"))


def print_differences(
    first: str,
    second: str,
    found: Sequence[Difference],
    resolved: Resolved,
    results: ResultDifferences,
) -> None:
    """What two experiments do not share, the first's in red, the second's in green; and results."""
    out = _console()
    out.print(Text(f"- {first}", "red"))
    out.print(Text(f"+ {second}", "green"))
    differing = {one.path for one in found}
    for one in found:
        out.print(Text(one.path, "bold"))
        out.print(Text(f"- {shown(one.first)}  (from {one.first_origin})", "red"))
        out.print(Text(f"+ {shown(one.second)}  (from {one.second_origin})", "green"))
    for path, value in resolved.items():
        if path not in differing:
            out.print(Text(f"  {path} {shown(value.value)}", "dim"))
    if not found:
        out.print("they are the same configuration")
    _print_results(results, out)


def _print_results(results: ResultDifferences, out: PlainConsole) -> None:
    launches = (results.first, results.second)
    out.print()
    if not results.figures:
        out.print("neither has a finished launch to compare", style="dim")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("metric", overflow="fold")
    for launch in launches:
        table.add_column(launch.attempt if launch else "not finished", justify="right")
    table.add_column("change", justify="right")
    table.add_row("outcome", *(_coloured(one.verdict if one else "") for one in launches), "")
    for pair in results.figures:
        table.add_row(*figure_cells(pair))
    out.print(table)


def print_tree(view: Sequence[Mapping[str, Any]]) -> None:
    """Who extends whom."""
    out = _console()
    for one in view:
        branch = Tree(_label(one))
        _grow(branch, one["children"])
        out.print(branch)


def print_scoreboard(board: Scoreboard) -> None:
    """How often hypotheses hold."""
    if not board.authors:
        print("nothing was scored yet")
        return
    out = _console()
    for heading, tallies in (("author", board.authors), ("objective", board.objectives)):
        table = Table(box=None, pad_edge=False)
        table.add_column(heading, overflow="fold")
        for name in ("met", "missed", "void", "held"):
            table.add_column(name, justify="right")
        for one in tallies:
            table.add_row(escape(one.name), *map(str, (one.met, one.missed, one.void)), _held(one))
        out.print(table)
        out.print()


def _held(one: Tally) -> str:
    return "–" if one.share is None else f"{one.share:.0%}"


def _grow(branch: Tree, children: Sequence[Mapping[str, Any]]) -> None:
    for one in children:
        _grow(branch.add(_label(one)), one["children"])


def _label(one: Mapping[str, Any]) -> Text:
    word = one["outcome"] or one["state"]
    changes = ", ".join(f"{path}={shown(value)}" for path, value in one["changes"].items())
    missing = (
        f"  extends {one['missing_parent']}, which is missing" if one["missing_parent"] else ""
    )
    return Text.assemble(
        (one["name"], "bold"),
        "  ",
        (word, _COLOURS.get(word, "dim")),
        (f"  {changes}" if changes else "", "dim"),
        (f"  {one['error']}" if one["error"] else missing, "red"),
    )


def _coloured(word: str) -> Text:
    return Text(word, style=_COLOURS.get(word, "red" if word == "broken" else ""))


def _console() -> PlainConsole:
    return PlainConsole(highlight=False)
