"""What the last drift check found, as a card of the health page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dash.development.base_component import Component

from dashboards.pages.health.poller import Polled
from dashboards.pages.health.status_card import State, ago, card
from inference_graph.control.drift_state import WORDS, Decision, DriftState

_OLD_CHECK_SECONDS = 24 * 3600.0
"""Drift is checked four times a day; a check older than this means that none runs."""
_OF_DRIFT: Mapping[Decision, State] = {
    "none": "well",
    "watch": "watch",
    "retrain": "bad",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Checked:
    """What the last check left; None where there was none."""

    state: DriftState | None


def drift_card(known: Polled[Checked], now: datetime) -> tuple[State, Component]:
    """What the last drift check found, and its card."""
    title = "Drift"
    if known.looking:
        return "unknown", card(title, "unknown", "looking", [])
    if known.failure is not None or known.value is None:
        return "bad", card(title, "bad", "cannot be read", [str(known.failure)])
    found = known.value.state
    if found is None:
        return "unknown", card(
            title,
            "unknown",
            "not checked yet",
            [
                "Whether frames, answers or accuracy have moved away from what the policy was "
                "trained on, and whether that hurts: gearshift drift check answers it, and the "
                "result is shown here."
            ],
        )
    state = _OF_DRIFT[found.decision]
    lines = [found.sentence, *found.evidence]
    checked = f"Checked {ago(found.checked_at, now)}, on {found.frames:,} answers"
    checked += f" up to {ago(found.until, now)}." if found.until is not None else "."
    late = (now - found.checked_at).total_seconds() > _OLD_CHECK_SECONDS
    if late:
        checked += " That is long ago: is the schedule running?"
        state = "watch" if state == "well" else state
    return state, card(title, state, WORDS[found.decision], [*lines, checked])
