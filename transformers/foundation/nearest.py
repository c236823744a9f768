"""The nearest right name for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12


def unknown(name: str, known: Iterable[str]) -> str:
    """``'retaned' is not known; did you mean 'retained'?``, or the names there are if few."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1, 0.45)
    if near:
        return f"{name[:80]!r} is not known; did you mean {near[0]!r}?"
    if not names:
        return f"{name[:80]!r} is not known"
    more = ", ..." if len(names) > _LISTED else ""
    return f"{name[:80]!r} is not known; choose from {', '.join(names[:_LISTED])}{more}"
