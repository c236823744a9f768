from __future__ import annotations

import pytest

from components.evaluation.judge import Baseline, Judged, Judgement
from components.evaluation.report_schema import Estimate, Lift
from pipelines.cli.judgement_display import show_judgement

NONE = Estimate(value=None, low=None, high=None)


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.01, high=value + 0.01)


def test_a_judgement_is_a_table_with_its_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"nano": 0.5, "small": 0.25, "large": 0.125}
    plain = Judged(0.2, estimate(0.9), 0.88, estimate(0.02), {**shares, "large": 0.25})
    found = Judgement(
        policy="abc",
        clips=4,
        frames=60,
        released=plain,
        tracked=plain,
        reuse=Judged(0.15, estimate(0.89), None, NONE, shares),
        lift=Lift(over_hull=estimate(0.02), over_rule=estimate(-0.03), rule="tod"),
        gap_shares={"0.10": NONE, "0.20": estimate(0.5)},
        mean_gap_share=estimate(0.5),
        own_answers_gap_share=estimate(0.8),
        of_own_answers=estimate(0.625),
        baselines={"always-large": Baseline("", 1.0, estimate(1.0), estimate(1.1), estimate(-0.1))},
    )
    show_judgement(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "policy abc on 4 test clips (60 frames)" in shown
    assert "lift over tod, the best rule on the tune clips, -0.030 (-0.040 to -0.020)" in shown
    assert "frames: nano 50.0%, small 25.0%, large 25.0%; reusing, 12.5% are answered" in shown
    assert "0.10: -, 0.20: 0.500 (0.490 to 0.510)" in shown
    assert "certified to retain 0.880; tracked 0.880; reusing nothing" in shown
    assert "always-large" in shown and "-0.100" in shown
