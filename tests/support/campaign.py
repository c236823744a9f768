"""How often a test of random inputs or kills repeats itself: a few times, or at its full count."""

from __future__ import annotations

import os

FULL = "GEARSHIFT_FULL_CAMPAIGNS"


def runs(few: int, full: int) -> int:
    """``few`` in ``make test``; ``full``, the count the documents state, in ``make campaigns``."""
    return full if os.environ.get(FULL) == "1" else few
