from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

from health_samples import text_of

from dashboards.pages.health.poller import Polled
from dashboards.pages.health.rollout_card import RolloutStatus, rollout_card
from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.state import RolloutState, read_state, write_state

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
STATE = RolloutState(
    rollout="r1",
    model="small",
    source="new.onnx",
    sha256="1" * 64,
    who="anna",
    plan=RolloutPlan(),
    started=NOW - timedelta(hours=3),
    phase="step",
    step=1,
    since=NOW - timedelta(minutes=9),
    updated=NOW - timedelta(seconds=5),
    stable="0" * 12,
    canary="1" * 12,
    sentence="not decided yet (retained)",
    findings={
        "latency": {"breached": False, "passed": True, "frames": [900, 300]},
        "retained": {"breached": False, "passed": False, "frames": [90, 88]},
    },
)


def shown(found: RolloutState | None) -> tuple[str, str]:
    state, component = rollout_card(Polled(RolloutStatus(found), NOW), NOW)
    return state, text_of(component)


def test_a_step_shows_share_and_findings(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE
    state, text = shown(STATE)
    assert state == "well"
    for words in (
        "Canaries under way",
        "25 % of the traffic; started by anna 3 h ago",
        "Latency: within its limit, 300 of the canary against 900",
        "Retained: not decided",
        "As of 5 s ago",
    ):
        assert words in text


def test_what_went_back_is_to_watch_and_states_why() -> None:
    ended = dataclasses.replace(STATE, phase="rolled back", sentence="at 5 %: latency 13 ms")
    state, text = shown(ended)
    assert state == "watch"
    assert "rolled back" in text and "At 5 %: latency 13 ms." in text and "0 % of" in text


def test_a_silent_controller_is_asked_after() -> None:
    state, text = shown(dataclasses.replace(STATE, updated=NOW - timedelta(hours=2)))
    assert state == "watch" and "does it run?" in text
    state, _ = shown(dataclasses.replace(STATE, phase="promoted", updated=NOW - timedelta(hours=2)))
    assert state == "well"


def test_none_states_how_to() -> None:
    state, text = shown(None)
    assert state == "unknown" and "gearshift rollout start" in text
