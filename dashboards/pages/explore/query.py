"""An address of the explore page as a filter, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from urllib.parse import unquote

from dashboards.log.figures import Filter
from inference_graph.contract import GEARS

NO_CONDITION = "(none)"
"""Stands for frames without a condition."""


def filter_of(query: Mapping[str, str]) -> Filter:
    """The filter of an address; what is broken in it is ignored.

    ``from`` and ``to`` are ISO 8601, UTC without a zone; ``session``, ``condition`` and ``rung``
    hold names separated by commas ("(none)": frames without a condition); ``ms`` is
    ``lowest-highest``; ``only`` holds ``fallbacks`` and ``images``.
    """
    only = _names(query.get("only"))
    return Filter(
        since=time_of(query.get("from")),
        until=time_of(query.get("to")),
        sessions=_names(query.get("session")),
        conditions=tuple(
            "" if name == NO_CONDITION else name for name in _names(query.get("condition"))
        ),
        rungs=tuple(rung for rung in GEARS if rung in _names(query.get("rung"))),
        total_ms=range_of(query.get("ms")),
        fallbacks="fallbacks" in only,
        images="images" in only,
    )


def query_of(chosen: Filter) -> dict[str, str]:
    """The address of a filter; ``filter_of`` reads it back."""
    only = [name for name in ("fallbacks", "images") if getattr(chosen, name)]
    state = {
        "from": chosen.since.strftime("%Y-%m-%dT%H:%M:%S") if chosen.since else "",
        "to": chosen.until.strftime("%Y-%m-%dT%H:%M:%S") if chosen.until else "",
        "session": ",".join(map(_quoted, chosen.sessions)),
        "condition": ",".join(_quoted(name or NO_CONDITION) for name in chosen.conditions),
        "rung": ",".join(chosen.rungs),
        "ms": "-".join(_short(value) for value in chosen.total_ms or ()),
        "only": ",".join(only),
    }
    return {name: value for name, value in state.items() if value}


def time_of(text: str | None, zone: tzinfo = UTC) -> datetime | None:
    """A point in time, UTC, in ``zone`` where the text names none; None for anything else."""
    try:
        time = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return (time.replace(tzinfo=zone) if time.tzinfo is None else time).astimezone(UTC)


def range_of(text: str | None) -> tuple[float, float] | None:
    """``lowest-highest`` as two numbers; None for anything else."""
    first, dash, last = (text or "").partition("-")
    try:
        low, high = float(first or 0), float(last or math.inf)
    except ValueError:
        return None
    if not dash or math.isnan(low) or math.isnan(high) or not 0 <= low <= high:
        return None
    return low, min(high, 1e9)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(unquote(name) for name in (text or "").split(",") if name)


def _short(value: float) -> str:
    """A number without an exponent, whose sign would be taken for the dash."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _quoted(name: str) -> str:
    """A name without commas of its own."""
    return name.replace("%", "%25").replace(",", "%2C")
