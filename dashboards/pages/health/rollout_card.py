"""Where the rollout stands, as a card of the health page; it is only read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dash.development.base_component import Component

from dashboards.pages.health.poller import Polled
from dashboards.pages.health.status_card import State, ago, card
from inference_graph.control.rollout.state import Phase, RolloutState

_TITLE = "Canaries"
_SILENT_SECONDS = 300.0
"""A controller that has not written for so long does not run."""
_OF_PHASE: Mapping[Phase, tuple[State, str]] = {
    "starting": ("well", "starting"),
    "step": ("well", "under way"),
    "promoting": ("well", "being promoted"),
    "promoted": ("well", "promoted"),
    "rolling back": ("watch", "being rolled back"),
    "rolled back": ("watch", "rolled back"),
}


@dataclass(frozen=True)
class RolloutStatus:
    """What the folder of the rollouts holds; None where there was none."""

    state: RolloutState | None


def rollout_card(known: Polled[RolloutStatus], now: datetime) -> tuple[State, Component]:
    """Where the rollout stands, and its card."""
    if known.looking:
        return "unknown", card(_TITLE, "unknown", "looking", [])
    if known.failure is not None or known.value is None:
        return "bad", card(_TITLE, "bad", "cannot be read", [str(known.failure)])
    found = known.value.state
    if found is None:
        return "unknown", card(
            _TITLE,
            "unknown",
            "none yet",
            [
                "The share of traffic that a new policy or detector gets, and what the analysis "
                "says of it: gearshift rollout start begins one."
            ],
        )
    state, word = _OF_PHASE[found.phase]
    lines = [
        f"{found.model}: {found.canary or 'new revision'} beside {found.stable or 'the stable one'}"
        f", {found.weight} % of the traffic{_goal(found)}; started by {found.who} "
        f"{ago(found.started, now)}.",
        *([f"{found.sentence}."] if found.sentence else []),
        *([f"The last attempt failed: {found.failure}."] if found.failure else []),
        *(_line(name, numbers) for name, numbers in found.findings.items()),
    ]
    updated = found.updated
    silent = updated is not None and (now - updated).total_seconds() > _SILENT_SECONDS
    if silent and not found.ended:
        state = "watch"
        lines.append(f"Its controller last looked {ago(updated, now)}: does it run?")
    elif updated is not None:
        lines.append(f"As of {ago(updated, now)}.")
    return state, card(_TITLE, state, word, lines)


def _goal(found: RolloutState) -> str:
    return "" if found.goal == found.weight else f", moving to {found.goal} %"


def _line(name: str, numbers: Mapping[str, Any]) -> str:
    frames = numbers["frames"]
    verdict = "limit exceeded" if numbers["breached"] else "within its limit"
    if not numbers["breached"] and not numbers["passed"]:
        verdict = "not decided"
    return f"{name}: {verdict}, {frames[1]:,} of the canary against {frames[0]:,}"
