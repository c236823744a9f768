from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trigger_samples import NOON, config, row, write_log

from foundation.errors import InvalidInput
from foundation.json_lines import appending
from inference_graph.control.drift_state import DriftState, write_state
from inference_graph.control.triggers.config import (
    AccuracyRule,
    AlertRule,
    DriftRule,
    LatencyRule,
    Rule,
    ScheduleRule,
    VolumeRule,
)
from inference_graph.control.triggers.evidence import Evidence, weigh


def found(folder: Path, rule: Rule, last_launch: Any = None, now: Any = NOON) -> Evidence:
    evidence = weigh(rule, config(folder, rule), last_launch, now)
    assert evidence is not None and (evidence.rule, evidence.when) == (rule.name, rule.when)
    assert bool(evidence.key) == evidence.met
    return evidence


class TestVolume:
    @pytest.fixture(autouse=True)
    def log(self, tmp_path: Path) -> None:
        hour = timedelta(hours=1)
        rows = [row(n, time=NOON - n * hour, image=b"x" if n < 4 else None) for n in range(10)]
        write_log(tmp_path, [*rows, row(99, answered_by="", error="no rung")])

    def test_frames_since_the_last_launch(self, tmp_path: Path) -> None:
        assert found(tmp_path, VolumeRule("v", frames=10)).met
        assert not found(tmp_path, VolumeRule("v", frames=11)).met  # an error is no answer
        launched = NOON - timedelta(hours=5, minutes=30)
        since = found(tmp_path, VolumeRule("v", frames=6), launched)
        assert since.met and since.figures == {"frames": 6, "images": 4}
        assert since.sentence == (
            "there are 6 of 6 frames since the launch of 2026-11-21 06:30 UTC"
        )
        assert not found(tmp_path, VolumeRule("v", frames=7), launched).met

    def test_everything_asked_for_has_to_be_there(self, tmp_path: Path) -> None:
        assert found(tmp_path, VolumeRule("v", frames=5, images=4)).met
        assert not found(tmp_path, VolumeRule("v", frames=5, images=5)).met

    def test_more_data_since_the_same_launch_is_the_same_evidence(self, tmp_path: Path) -> None:
        one = found(tmp_path, VolumeRule("v", frames=5))
        write_log(tmp_path, [row(200)])
        assert found(tmp_path, VolumeRule("v", frames=5)).key == one.key
        assert found(tmp_path, VolumeRule("v", frames=1), NOON - timedelta(hours=1)).key != one.key

    def test_approved_feedback(self, tmp_path: Path) -> None:
        def say(item: str, decision: str, hours: float) -> None:
            with appending(tmp_path / "decisions.jsonl") as (_, append):
                time = (NOON - timedelta(hours=hours)).isoformat()
                append({"item": item, "decision": decision, "time": time})

        assert not found(tmp_path, VolumeRule("v", approved=1)).met
        for item, decision, hours in (
            ("a", "approved", 9),
            ("b", "approved", 3),
            ("c", "rejected", 3),
            ("b", "rejected", 2),
            ("d", "approved", 1),
        ):
            say(item, decision, hours)
        assert found(tmp_path, VolumeRule("v", approved=1)).figures == {"approved": 2}
        since = found(tmp_path, VolumeRule("v", approved=1), NOON - timedelta(hours=5))
        assert since.figures == {"approved": 1}


class TestAccuracy:
    RULE = AccuracyRule("a", retained_below=0.9, hours=6, shadowed=100)

    @staticmethod
    def write(
        folder: Path, agreement: float, spread: float, hours: float = 1, start: int = 0
    ) -> None:
        """Twelve sessions of ten shadowed frames, five of large and five without a shadow."""
        rows = []
        for session in range(12):
            agreed = agreement + spread * (-1) ** session
            for frame in range(20):
                number = start + 20 * session + frame
                fields: dict[str, Any] = {"session": f"s{session}"}
                if frame < 10:
                    fields |= {"shadow": True, "agreement": agreed}
                elif frame < 15:
                    fields |= {"answered_by": "large"}
                rows.append(row(number, time=NOON - timedelta(hours=hours), **fields))
        write_log(folder, rows)

    def test_worked_out(self, tmp_path: Path) -> None:
        self.write(tmp_path, 0.8, 0.02)
        evidence = found(tmp_path, self.RULE)
        # A quarter of the frames was large's own: 0.25 + 0.75 * 0.8.
        assert evidence.figures["retained"] == pytest.approx(0.85)
        # Twelve means, 0.02 from 0.8 each: their standard error, and Student's t with 11 degrees.
        half = 0.75 * 2.201 * np.std([0.02, -0.02] * 6, ddof=1) / np.sqrt(12)
        assert evidence.figures["high"] == pytest.approx(0.85 + half, abs=2e-4)
        assert (evidence.met, evidence.figures["shadowed"]) == (True, 120)
        assert "85.0% of large's accuracy was retained" in evidence.sentence

    def test_what_may_be_chance_does_not_count(self, tmp_path: Path) -> None:
        self.write(tmp_path, 0.85, 0.15)  # 0.8875, but the interval goes up to about 0.96
        assert not found(tmp_path, self.RULE).met
        assert found(tmp_path, AccuracyRule("a", 0.9, 6, 100, certain=False)).met

    def test_too_few_looks(self, tmp_path: Path) -> None:
        self.write(tmp_path, 0.5, 0.0)
        evidence = found(tmp_path, AccuracyRule("a", 0.9, 6, 121))
        assert (evidence.met, "120 of the 121 frames" in evidence.sentence) == (False, True)
        assert not found(tmp_path / "nothing", self.RULE).met

    def test_what_was_before_the_last_launch_or_the_window_does_not_count(
        self, tmp_path: Path
    ) -> None:
        self.write(tmp_path, 0.5, 0.01, hours=3)
        assert found(tmp_path, self.RULE).met
        assert not found(tmp_path, self.RULE, NOON - timedelta(hours=2)).met
        assert not found(tmp_path, self.RULE, now=NOON + timedelta(hours=4)).met
        self.write(tmp_path, 0.95, 0.01, hours=1, start=1000)
        assert found(tmp_path, self.RULE, NOON - timedelta(hours=2)).figures["shadowed"] == 120


def test_latency_is_the_95th_percentile(tmp_path: Path) -> None:
    # 1 to 200 ms: numpy's linear 95th percentile is 1 + 0.95 * 199.
    write_log(
        tmp_path, [row(n, time=NOON - timedelta(minutes=5), total_ms=n + 1.0) for n in range(200)]
    )
    evidence = found(tmp_path, LatencyRule("l", p95_ms=190, hours=1, frames=200))
    assert (evidence.met, evidence.figures["p95_ms"]) == (True, 190.05)
    assert not found(tmp_path, LatencyRule("l", 191, 1, 200)).met
    few = found(tmp_path, LatencyRule("l", 1, 1, 201))
    assert (few.met, few.sentence) == (False, "200 of the 201 frames needed were answered")
    assert not found(tmp_path, LatencyRule("l", 1, 0.05, 2)).met


class TestDrift:
    @staticmethod
    def write(folder: Path, **fields: Any) -> None:
        given: dict[str, Any] = {
            "decision": "retrain",
            "sentence": "night fell",
            "evidence": ("brightness",),
            "checked_at": NOON - timedelta(hours=1),
            "since": NOON - timedelta(hours=7),
            "until": NOON - timedelta(hours=1),
            "frames": 500,
            "policy_revision": "abc",
            "retained": 0.8,
            "retained_interval": (0.75, 0.85),
            "reference_retained": 0.95,
        }
        (folder / "drift").mkdir(exist_ok=True)
        write_state(DriftState(**(given | fields)), folder / "drift")

    def test_by_its_decision(self, tmp_path: Path) -> None:
        none = found(tmp_path, DriftRule("d"))
        assert (none.met, "no drift check" in none.sentence) == (False, True)
        self.write(tmp_path)
        evidence = found(tmp_path, DriftRule("d"))
        assert (evidence.met, evidence.sentence) == (True, "harmful drift: night fell")
        self.write(tmp_path, decision="watch")
        assert not found(tmp_path, DriftRule("d")).met
        assert found(tmp_path, DriftRule("d", ("watch",))).met

    def test_an_old_check_does_not_count(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        assert not found(tmp_path, DriftRule("d", max_age_hours=0.5)).met

    def test_frames_from_before_the_last_launch_do_not_count(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        assert found(tmp_path, DriftRule("d"), NOON - timedelta(hours=2)).met
        assert not found(tmp_path, DriftRule("d"), NOON - timedelta(minutes=30)).met

    def test_the_same_window_is_the_same_evidence(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        one = found(tmp_path, DriftRule("d")).key
        self.write(tmp_path, checked_at=NOON)
        assert found(tmp_path, DriftRule("d")).key == one
        self.write(tmp_path, until=NOON)
        assert found(tmp_path, DriftRule("d")).key != one

    def test_a_broken_state_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "drift").mkdir()
        (tmp_path / "drift" / "state.json").write_text("{}")
        with pytest.raises(InvalidInput, match="state.json is no state"):
            found(tmp_path, DriftRule("d"))


def test_a_schedule_is_due_once_for_each_time(tmp_path: Path) -> None:
    rule = ScheduleRule("s", "0 11 * * *", catch_up_hours=2)
    evidence = found(tmp_path, rule)
    assert (evidence.met, evidence.key) == (True, "s at 2026-11-21T11:00:00+00:00")
    assert found(tmp_path, rule, now=NOON + timedelta(minutes=30)).key == evidence.key
    assert not found(tmp_path, rule, now=NOON + timedelta(hours=2)).met  # too late to make good
    assert not found(tmp_path, rule, now=NOON - timedelta(hours=1, minutes=1)).met
    tomorrow = found(tmp_path, rule, now=NOON + timedelta(days=1))
    assert tomorrow.met and tomorrow.key != evidence.key


def test_an_alert_rule_is_not_weighed(tmp_path: Path) -> None:
    rule = AlertRule("a", ("GearshiftAccuracyLow",))
    assert weigh(rule, config(tmp_path, rule), None, NOON) is None
