from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from health_samples import text_of

from dashboards.pages.health.drift_card import Checked, drift_card
from dashboards.pages.health.poller import Polled
from foundation.errors import InvalidInput
from inference_graph.control.drift_state import DriftState, read_state, write_state

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FOUND = DriftState(
    decision="retrain",
    sentence="Harmful drift: brightness moved.",
    evidence=("brightness: median 0.5 became 0.2",),
    checked_at=NOW - timedelta(hours=3),
    since=NOW - timedelta(hours=9),
    until=NOW - timedelta(hours=4),
    frames=4321,
    policy_revision="0123456789ab",
    retained=0.8,
    retained_interval=(0.75, 0.85),
    reference_retained=0.95,
)


def shown(found: DriftState | None) -> tuple[str, str]:
    state, component = drift_card(Polled(Checked(found), NOW), NOW)
    return state, text_of(component)


def test_a_state_is_the_same_after_the_disk(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    write_state(FOUND, tmp_path)
    assert read_state(tmp_path) == FOUND
    (tmp_path / "state.json").write_text('{"decision": "rain"}')
    with pytest.raises(InvalidInput, match="is no state of a drift check"):
        read_state(tmp_path)


@pytest.mark.parametrize(
    ("decision", "state", "word"),
    [
        ("none", "well", "no drift"),
        ("watch", "watch", "harmless drift"),
        ("retrain", "bad", "harmful drift"),
        ("unknown", "unknown", "too little data"),
    ],
)
def test_a_decision_reads_as_it_is(decision: str, state: str, word: str) -> None:
    found, text = shown(dataclasses.replace(FOUND, decision=decision))  # type: ignore[arg-type]  # a word each
    assert found == state
    assert f"Drift {word}" in text
    assert "Brightness: median 0.5 became 0.2" in text
    assert "Checked 3 h ago, on 4,321 answers up to 4 h ago." in text


def test_a_check_of_the_day_before_yesterday_is_no_comfort() -> None:
    old = dataclasses.replace(FOUND, decision="none", checked_at=NOW - timedelta(days=2))
    state, text = shown(old)
    assert state == "watch"
    assert "is the schedule running?" in text


def test_nothing_checked_states_how_to() -> None:
    state, text = shown(None)
    assert state == "unknown"
    assert "gearshift drift check answers it" in text
