"""The online detector, and following a log with it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drift_samples import NOON, Streets, write_log, write_reference

from components.drift.online import OnlineConfig, OnlineDetector
from components.drift.reference import load_reference
from components.drift.watch import WatchConfig, watch_log
from foundation.errors import ConfigurationError, InvalidInput

SMALL = OnlineConfig(expected_run=100, window_size=8)


def test_it_fires_soon_after_a_change_and_seldom_without() -> None:
    pytest.importorskip("alibi_detect")
    rng = np.random.default_rng(1)
    detector = OnlineDetector(rng.normal(size=(300, 6)).astype(np.float32), SMALL)
    alarms = 0
    for _ in range(600):
        if detector.look(rng.normal(size=6).astype(np.float32)).fires:
            alarms += 1
            detector.forget()
    assert alarms <= 18  # six are due
    detector.forget()
    steps = [detector.look((rng.normal(size=6) + 3).astype(np.float32)) for _ in range(8)]
    assert any(step.fires for step in steps)
    assert steps[-1].statistic > steps[0].statistic


def test_too_small_a_reference_and_a_missing_extra_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = np.zeros((31, 6), np.float32)
    monkeypatch.setattr("components.drift.discrepancy.has_alibi_detect", lambda: True)
    with pytest.raises(InvalidInput, match="31 independent frames .* needs 32"):
        OnlineDetector(few, SMALL)
    monkeypatch.setattr("components.drift.discrepancy.has_alibi_detect", lambda: False)
    with pytest.raises(ConfigurationError, match=r"pip install 'gearshift\[drift\]'"):
        OnlineDetector(few, SMALL)
    with pytest.raises(ConfigurationError, match="expected_run is 3"):
        OnlineConfig(expected_run=3)


def test_a_log_is_followed_until_it_fires(tmp_path: Path) -> None:
    pytest.importorskip("alibi_detect")
    reference = load_reference(
        str(write_reference(tmp_path / "reference", Streets(count=60, frames=2)))
    )
    log = write_log(tmp_path / "log", Streets(count=10, frames=2, seed=4))
    reported: list[dict[str, Any]] = []
    turns: list[float] = []

    def sleep(seconds: float) -> None:
        """Between two looks the night begins."""
        turns.append(seconds)
        if len(turns) == 1:
            night = Streets(count=30, frames=2, seed=5, grey=(0.1, 0.02))
            write_log(log, night, NOON + timedelta(minutes=5))

    config = WatchConfig(
        expected_run=100, window_size=8, since=NOON.isoformat(), poll_seconds=0.1, idle_seconds=60.0
    )
    found = watch_log(str(log), reference, config, reported.append, sleep)
    assert [event["event"] for event in reported] == ["watching", "drift"]
    assert (reported[0]["reference_frames"], reported[0]["spacing"]) == (60, 2)
    assert reported[1]["stream"].startswith("session street-5-")  # a street of the night
    assert reported[1]["statistic"] > reported[1]["threshold"]
    assert found.alarms == 1
    assert 10 < found.looked < 40  # one frame of each street, until it fired
    assert turns == [0.1]
