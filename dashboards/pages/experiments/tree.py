"""Who extends whom, as a tree of experiments or of one branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html, no_update
from dash.development.base_component import Component

from components.experiments.export import shown
from components.experiments.ledger import Ledger
from components.experiments.tree import tree_view
from dashboards.pages.experiments.compare import choice, register_choice

ROOT = "experiments-root"
_TREE = "experiments-tree"
_NODES = 200
"""Experiments that are drawn at most: more are found by words, not by looking."""


def tree_layout(ledger: Ledger, root: str | None) -> Component:
    """The view; the callback draws it.

    Args:
        ledger: with an experiment at least.
        root: the branch that the address names; all of them without it.
    """
    return dmc.Stack(
        [
            choice(ledger, ROOT, "Branch", root, clearable=True, placeholder="all of them"),
            dmc.Card(html.Div(id=_TREE), withBorder=True, padding="sm"),
        ],
        gap="sm",
    )


def register_tree(app: Dash, ledger: Callable[[], Ledger | None], tabs: str, view: str) -> None:
    """The tree's callbacks.

    Args:
        app: the application.
        ledger: opens the ledger, to be closed; None where there is none.
        tabs: id of the tabs of which it is one; it is drawn when it is opened.
        view: its name there.
    """
    register_choice(app, ROOT, ledger)

    @app.callback(Output(_TREE, "children"), Input(ROOT, "value"), Input(tabs, "value"))
    def tree(root: str | None, shown_view: str | None) -> Any:
        """A branch, or all of them."""
        opened = ledger() if shown_view == view else None
        if opened is None:
            return no_update
        try:
            return _lineage(tree_view(opened, root or ""))
        finally:
            opened.close()


def _lineage(roots: Sequence[Mapping[str, Any]]) -> Component:
    """The tree, its first generations where it is too large for a picture."""
    drawn: set[int] = set()
    generation = list(roots)
    while generation and len(drawn) < _NODES:
        drawn.update(id(one) for one in generation[: _NODES - len(drawn)])
        generation = [child for one in generation for child in one["children"] if id(one) in drawn]
    return html.Ul(_branches(roots, drawn), className="lineage")


def _branches(some: Sequence[Mapping[str, Any]], drawn: set[int]) -> list[Component]:
    shown_here = [_branch(one, drawn) for one in some if id(one) in drawn]
    left = len(some) - len(shown_here)
    if left:
        more = f"{left:,} more, with what extends them; choose a branch above"
        shown_here.append(html.Li(more, className="aside"))
    return shown_here


def _branch(one: Mapping[str, Any], drawn: set[int]) -> Component:
    changes = ", ".join(f"{path} = {shown(value)}" for path, value in one["changes"].items())
    lost = f"extends {one['missing_parent']}, which is missing" if one["missing_parent"] else ""
    trouble = one["error"] or lost
    return html.Li(
        [
            # Plain elements: hundreds of Mantine's texts keep a browser busy for seconds.
            html.B(one["name"]),
            html.Span(f"  {one['outcome'] or one['state']}", className="aside"),
            *([html.Span(f"  {changes}")] if changes else []),
            *([html.B(f"  ! {trouble}")] if trouble else []),
            *([html.Ul(_branches(one["children"], drawn))] if one["children"] else []),
        ]
    )
