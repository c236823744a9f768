"""Expected outcomes: what may be written, and figures worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.experiments.outcome import (
    METRICS,
    Expectation,
    compute,
    metrics_of,
    read_formula,
)
from foundation.errors import ConfigurationError

FIGURES = {"retained": 0.96, "latency_ratio": 0.3, "rows.oracle.p95_ms": 20.0}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("retained >= 0.96", "met"),
        ("retained > 0.96", "missed"),
        ("retained >= 0.985 and latency_ratio <= 0.4", "missed"),
        ("retained >= 0.985 or latency_ratio <= 0.4", "met"),
        ("not retained >= 0.985", "met"),
        ("0.9 < retained < 0.97", "met"),
        ("retained - 0.2 * latency_ratio >= 0.8999", "met"),  # 0.96 - 0.06
        ("retained - 0.2 * latency_ratio > 0.9001", "missed"),
        ("rows.oracle.p95_ms / 2 == 10", "met"),
        ("-latency_ratio >= -0.3 and (retained != 1)", "met"),
        ("gap_share >= 0", "void"),
        ("retained >= 0.9 or gap_share >= 0", "void"),  # what cannot be measured is not skipped
        ("retained / (latency_ratio - latency_ratio) > 1", "void"),
    ],
)
def test_an_expectation_is_met_missed_or_void(text: str, verdict: str) -> None:
    found = Expectation.read(text).score(FIGURES)
    assert found.verdict == verdict
    assert set(found.figures) == set(Expectation.read(text).metrics)


def test_the_figures_that_decided_are_reported() -> None:
    found = Expectation.read("retained >= 0.985 and latency_ratio <= 0.4").score(FIGURES)
    assert found.reason == "retained is 0.96, latency_ratio is 0.3"
    assert Expectation.read("gap_share > 0").score({}).reason == "the report has no gap_share"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("retaned >= 0.9", "did you mean 'retained'"),
        ("rows.orcale.p95_ms <= 1", "did you mean 'rows.oracle.p95_ms'"),
        ("fleets.gearshift.camera_8.dropped <= 1", "did you mean 'fleets.gearshift.cameras_8"),
        ("retained", "neither true nor false"),
        ("retained >= 0.9 and latency_ratio", "not a comparison"),
        ("(retained > 1) + 1 > 0", "not a number"),
        ("1 < 2", "names no metric"),
        ("retained >=", "cannot be read"),
        ("retained >= '1'", "may not stand there"),
        ("retained >= True", "may not stand there"),
        ("retained >= 1e999", "may not stand there"),
        ("retained ** 2 > 1", "may not stand there"),
        ("abs(retained) > 1", "may not stand there"),
        ("retained.__class__ > 1", "not known"),
        ("[retained][0] > 1", "may not stand there"),
        ("(lambda: retained) > 1", "may not stand there"),
        ("__import__('os').system('true') > 1", "may not stand there"),
        ("retained in (1, 2)", "may not stand there"),
        ("(retained := 1) > 0", "may not stand there"),
        ("(" * 400 + "retained", "cannot be read"),
        ("retained > 1" + " and retained > 1" * 50, "longer than"),
    ],
)
def test_nothing_else_may_stand_there(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Expectation.read(text)
    assert "\n" not in str(caught.value)


def test_what_a_sweep_seeks_is_a_number() -> None:
    assert read_formula("retained - 0.1 * latency_ratio") == ("retained", "latency_ratio")
    assert compute("retained - 0.1 * latency_ratio", FIGURES) == pytest.approx(0.93)
    assert compute("gap_share", FIGURES) is None
    with pytest.raises(ConfigurationError, match="is no number"):
        read_formula("retained > 1")


def test_a_report_is_read_by_path_and_name() -> None:
    report = {
        "retained": 0.9,
        "gap_share": None,
        "rows": [{"name": "always-large", "p95_ms": 3, "setting": "x", "shares": {"nano": 0.5}}],
        "fleets": [{"name": "gearshift", "cameras": 8, "dropped": 0.25, "reward": 1}],
        "conditions": {"night": {"retained": 0.8, "frames": 4}},
        "scene_types": {"dense": {"retained": 0.7, "latency_ratio": float("nan")}},
        "refinement": {"seeds": [0, 1]},
        "passed": True,
    }
    assert metrics_of(report) == {
        "retained": 0.9,
        "rows.always_large.p95_ms": 3.0,
        "rows.always_large.shares.nano": 0.5,
        "fleets.gearshift.cameras_8.dropped": 0.25,
        "fleets.gearshift.cameras_8.reward": 1.0,
        "conditions.night.retained": 0.8,
        "conditions.night.frames": 4.0,
        "scene_types.dense.retained": 0.7,
    }


def names_of(report: dict[str, Any]) -> set[str]:
    return set(metrics_of(json.loads(json.dumps(report))))


def test_every_name_is_known_once() -> None:
    assert len(set(METRICS)) == len(METRICS)
    for name in METRICS:
        assert Expectation.read(f"{name} > 0").metrics == (name,)
