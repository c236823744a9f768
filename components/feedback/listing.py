"""A list of feedback for a terminal, one line per item with its signs below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = ("item", "state", "user", "given (UTC)", "kind", "objects", "agrees")
_NOTHING = "no feedback here; it comes by POST /v1/feedback or `gearshift feedback import`"


def feedback_table(described: Sequence[Mapping[str, Any]]) -> str:
    """The list as text.

    Args:
        described: items as ``FeedbackStore.describe`` returns them.
    """
    if not described:
        return _NOTHING
    rows = [_HEAD, *(_row(one) for one in described)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = []
    for row, one in zip(rows, (None, *described), strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        lines += [f"    ! {sign}" for sign in (one["signs"] if one else ())]
    return "\n".join(lines)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    agrees = "-" if one["agreement"] is None else f"{one['agreement']:.2f}"
    time = str(one["time"])[:16].replace("T", " ")
    return (
        one["item"][:8],
        one["state"],
        one["user"],
        time,
        one["kind"],
        str(len(one["objects"])),
        agrees,
    )
