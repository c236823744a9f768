"""Who extends whom, as nested plain data."""

from __future__ import annotations

from typing import Any

from components.experiments.ledger import Ledger
from components.experiments.query import Question


def tree_view(ledger: Ledger, root: str = "") -> list[dict[str, Any]]:
    """Experiments with their children, recursively; a missing parent stands among the roots.

    Args:
        ledger: whose.
        root: only this one and its descendants.

    Raises:
        NotKnown: there is no such root.
    """
    if root:
        ledger.experiment(root)
    rows = {row.name: row for row in ledger.find(Question()).rows}
    children: dict[str, list[str]] = {}
    roots = []
    for row in rows.values():
        if row.parent in rows:
            children.setdefault(row.parent, []).append(row.name)
        else:
            roots.append(row.name)
    seen: set[str] = set()

    def branch(name: str) -> dict[str, Any]:
        seen.add(name)
        row = rows[name]
        below = [branch(child) for child in children.get(name, ()) if child not in seen]
        return {
            "name": name,
            "missing_parent": row.parent if row.parent and row.parent not in rows else "",
            "changes": dict(row.changes),
            "state": row.state,
            "outcome": row.outcome,
            "error": row.error,
            "children": below,
        }

    if root:
        return [branch(root)]
    found = [branch(name) for name in roots]
    # Those that run in a circle hang from no root.
    return found + [branch(name) for name in rows if name not in seen]
