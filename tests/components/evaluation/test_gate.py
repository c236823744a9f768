from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.evaluation.gate import Check, GateConfig, checklist, gate
from foundation.errors import ConfigurationError, InvalidInput

REPORT: dict[str, Any] = {
    "retained": 0.97,
    "latency_ratio": 0.24,
    "at_equal_latency": {"random-mix": 0.96, "bc": 0.972},
    "scene_types": {
        "sparse": {"retained": 0.99},
        "moderate": {"retained": 0.96},
        "dense": {"retained": 0.94},
    },
    "refinement": {
        "seeds": [0, 1],
        "released": 1,
        "parity": [0.5, 1.0],
        "explained_variance": [-1.0, 0.3],
    },
}
NAMES = [
    "retained", "latency_ratio", "above_hull", "above_clone", "retained_sparse",
    "retained_moderate", "retained_dense", "onnx_parity", "critic_explained_variance",
]  # fmt: skip

Change = Callable[[dict[str, Any]], object]


def checks(report: dict[str, Any] = REPORT, config: GateConfig | None = None) -> dict[str, Check]:
    return {check.name: check for check in checklist(report, config or GateConfig())}


def changed(change: Change) -> dict[str, Any]:
    report = copy.deepcopy(REPORT)
    change(report)
    return report


def test_a_good_report_by_hand() -> None:
    found = checks()
    assert list(found) == NAMES
    assert all(check.passed for check in found.values())
    assert found["retained"].value == 0.97
    assert found["above_hull"].value == pytest.approx(0.01)
    assert found["above_clone"].value == pytest.approx(-0.002)
    # The released seed's, not the other's.
    assert found["onnx_parity"].value == 1.0
    assert found["critic_explained_variance"].value == 0.3


@pytest.mark.parametrize(
    ("name", "fails", "passes"),
    [
        ("retained", lambda r: r.update(retained=0.9499), lambda r: r.update(retained=0.98)),
        (
            "latency_ratio",
            lambda r: r.update(latency_ratio=0.4201),
            lambda r: r.update(latency_ratio=0.42),
        ),
        (
            "above_hull",
            lambda r: r["at_equal_latency"].update({"random-mix": 0.9701}),
            lambda r: r["at_equal_latency"].update({"random-mix": 0.97}),
        ),
        (
            "above_clone",
            lambda r: r["at_equal_latency"].update(bc=0.9751),
            lambda r: r["at_equal_latency"].update(bc=0.9749),
        ),
        (
            "retained_dense",
            lambda r: r["scene_types"]["dense"].update(retained=0.9299),
            lambda r: r["scene_types"]["dense"].update(retained=0.93),
        ),
        (
            "onnx_parity",
            lambda r: r["refinement"].update(parity=[1.0, 0.999]),
            lambda r: r["refinement"].update(parity=[0.0, 1.0]),
        ),
        (
            "critic_explained_variance",
            lambda r: r["refinement"].update(explained_variance=[0.9, 0.0]),
            lambda r: r["refinement"].update(explained_variance=[0.0, 0.001]),
        ),
    ],
)
def test_each_check_at_its_threshold(name: str, fails: Change, passes: Change) -> None:
    failed = [check.name for check in checks(changed(fails)).values() if not check.passed]
    assert name in failed
    assert checks(changed(passes))[name].passed


def test_thresholds_are_configuration() -> None:
    strict = GateConfig(
        retained=0.98, latency_ratio=0.2, hull_margin=0.02, clone_margin=0.0,
        scene_type_retained=0.95, explained_variance=0.5,
    )  # fmt: skip
    found = checks(config=strict)
    failed = [name for name, check in found.items() if not check.passed]
    assert failed == [
        "retained", "latency_ratio", "above_hull", "above_clone", "retained_dense",
        "critic_explained_variance",
    ]  # fmt: skip
    assert found["retained_dense"].threshold == 0.95


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_figure_that_was_not_measured_fails(value: float | None) -> None:
    report = changed(lambda r: r["scene_types"]["sparse"].update(retained=value))
    assert not checks(report)["retained_sparse"].passed
    report = changed(lambda r: r["refinement"].update(explained_variance=[0.1, value]))
    assert not checks(report)["critic_explained_variance"].passed


@pytest.mark.parametrize(("name", "check"), [("random-mix", "above_hull"), ("bc", "above_clone")])
def test_an_alternative_that_was_not_measured_fails_its_check(name: str, check: str) -> None:
    report = changed(lambda r: r["at_equal_latency"].update({name: None}))
    assert checks(report)[check].value is None
    assert not checks(report)[check].passed


def write(folder: Path, report: Any) -> Path:
    path = folder / "report.json"
    path.write_text(json.dumps(report))
    return path


def test_a_pass_and_a_refusal_are_written_down(tmp_path: Path) -> None:
    passed = gate(write(tmp_path, REPORT), tmp_path / "gate", GateConfig())
    assert passed.passed and passed.refusal == ""
    stored = json.loads((tmp_path / "gate" / "gate.json").read_text())
    assert stored["passed"] is True
    assert [check["name"] for check in stored["checks"]] == NAMES
    assert set(stored["checks"][0]) >= {"name", "value", "threshold", "passed"}
    assert (tmp_path / "gate" / "gate.md").read_text().startswith("# Release gate: passed\n")

    bad = changed(
        lambda r: (r.update(retained=0.9), r["scene_types"]["dense"].update(retained=None))
    )
    refused = gate(write(tmp_path, bad), tmp_path / "gate", GateConfig())
    assert not refused.passed
    assert refused.refusal.startswith("retained is 0.9, must be >= 0.95; ")
    assert "retained_dense is not measured, must be >= 0.93" in refused.refusal
    page = (tmp_path / "gate" / "gate.md").read_text()
    assert page.startswith("# Release gate: refused\n")
    assert "| retained | 0.9 | >= 0.95 | **fail** |" in page
    assert json.loads((tmp_path / "gate" / "gate.json").read_text())["passed"] is False


@pytest.mark.parametrize("gone", ["retained", "latency_ratio", "at_equal_latency", "refinement"])
def test_a_report_that_lacks_a_figure_is_refused(gone: str, tmp_path: Path) -> None:
    report = changed(lambda r: r.pop(gone))
    with pytest.raises(InvalidInput, match="the report lacks what the gate checks"):
        gate(write(tmp_path, report), tmp_path / "gate", GateConfig())
    assert not (tmp_path / "gate").exists()


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no report; run evaluate again"):
        gate(tmp_path / "none.json", tmp_path / "gate", GateConfig())
    (tmp_path / "text.json").write_text("no json")
    with pytest.raises(InvalidInput, match="is no report; run evaluate again"):
        gate(tmp_path / "text.json", tmp_path / "gate", GateConfig())
    with pytest.raises(InvalidInput, match="the report lacks"):
        gate(write(tmp_path, [1, 2]), tmp_path / "gate", GateConfig())


@pytest.mark.parametrize("bad", [{"retained": 1.1}, {"scene_type_retained": -0.1}, {"parity": 2}])
def test_thresholds_that_no_policy_meets_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="give 0 to 1"):
        GateConfig(**bad)
