from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_samples import report_content

from components.evaluation.gate import Check, GateConfig, checklist, gate
from components.evaluation.report_schema import Report, without_nan
from foundation.errors import ConfigurationError, InvalidInput

REPORT: dict[str, Any] = report_content()
NAMES = [
    "retained",
    "latency_ratio",
    "lift_over_hull_low",
    "lift_over_rule_low",
    "above_clone",
    "above_fixed_rungs",
    "gain_of_nano",
    "gain_of_small",
    "gain_of_large",
    "retained_sparse",
    "retained_moderate",
    "retained_dense",
    "onnx_parity",
    "critic_explained_variance",
]

Change = Callable[[dict[str, Any]], object]


def _checklist(report: dict[str, Any], config: GateConfig) -> tuple[Check, ...]:
    return checklist(Report.model_validate(without_nan(report)), config)


def checks(report: dict[str, Any] = REPORT, config: GateConfig | None = None) -> dict[str, Check]:
    return {check.name: check for check in _checklist(report, config or GateConfig())}


def changed(change: Change) -> dict[str, Any]:
    report = copy.deepcopy(REPORT)
    change(report)
    return report


def test_a_good_report_by_hand() -> None:
    found = checks()
    assert list(found) == NAMES
    assert all(check.passed for check in found.values())
    assert found["retained"].value == 0.97
    assert found["lift_over_hull_low"].value == pytest.approx(0.01)
    assert found["lift_over_rule_low"].value == pytest.approx(-0.005)
    assert found["above_fixed_rungs"].value == pytest.approx(0.01)  # always-small is as fast
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
            "lift_over_hull_low",
            lambda r: r["lift"]["over_hull"].update(low=0.0),
            lambda r: r["lift"]["over_hull"].update(low=0.0001),
        ),
        (
            "lift_over_rule_low",
            lambda r: r["lift"]["over_rule"].update(low=-0.0101),
            lambda r: r["lift"]["over_rule"].update(low=-0.01),
        ),
        (
            "above_fixed_rungs",
            lambda r: r["rows"][1].update(retained=0.9701),
            lambda r: r["rows"][1].update(retained=0.9701, latency_ratio=0.2401),
        ),
        (
            "gain_of_large",
            lambda r: r["gears"]["large"].update(gain=-0.0001),
            lambda r: r["gears"]["large"].update(gain=0.0),
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
        retained=0.98,
        latency_ratio=0.2,
        hull_margin=0.02,
        clone_margin=0.0,
        rule_margin=0.0,
        fixed_rung_margin=0.02,
        gear_gain=0.02,
        scene_type_retained=0.95,
        explained_variance=0.5,
        protect=("person=0.99",),
    )
    found = checks(config=strict)
    failed = [name for name, check in found.items() if not check.passed]
    assert failed == [
        "retained",
        "latency_ratio",
        "lift_over_hull_low",
        "lift_over_rule_low",
        "above_clone",
        "above_fixed_rungs",
        "gain_of_nano",
        "gain_of_small",
        "gain_of_large",
        "retained_dense",
        "protected_person",
        "critic_explained_variance",
    ]
    assert found["retained_dense"].threshold == 0.95


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_figure_that_was_not_measured_fails(value: float | None) -> None:
    report = changed(lambda r: r["scene_types"]["sparse"].update(retained=value))
    assert not checks(report)["retained_sparse"].passed
    report = changed(lambda r: r["refinement"].update(explained_variance=[0.1, value]))
    assert not checks(report)["critic_explained_variance"].passed


def test_an_alternative_that_was_not_measured_fails_its_check() -> None:
    report = changed(
        lambda r: (r["at_equal_latency"].update(bc=None), r["lift"]["over_hull"].update(low=None))
    )
    for name in ("above_clone", "lift_over_hull_low"):
        assert checks(report)[name].value is None
        assert not checks(report)[name].passed


def test_a_rung_that_is_hardly_used_need_not_pay() -> None:
    report = changed(lambda r: r["gears"].update(large={"share": 0.01, "gain": -1.0}))
    assert "gain_of_large" not in checks(report)


def test_protected_classes_have_floors_of_their_own() -> None:
    found = checks(config=GateConfig(protect=("person=0.98", "dog=0.5")))
    assert found["protected_person"].passed
    assert not found["protected_dog"].passed  # nothing of large's to keep: not measured
    with pytest.raises(ConfigurationError, match="'cat', which the ladder does not detect; choose"):
        checks(config=GateConfig(protect=("cat=0.9",)))


@pytest.mark.parametrize("text", ["person", "person=", "=0.9", "person=1.1", "person=nan"])
def test_a_floor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="such as person=0.99"):
        GateConfig(protect=(text,))


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
    with pytest.raises(InvalidInput, match=rf"report.json is missing or broken \({gone}"):
        gate(write(tmp_path, report), tmp_path / "gate", GateConfig())
    assert not (tmp_path / "gate").exists()


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no json")
    for path in (tmp_path / "none.json", tmp_path / "text.json", write(tmp_path, [1, 2])):
        with pytest.raises(InvalidInput, match=rf"{path.name} is missing or broken .*evaluate"):
            gate(path, tmp_path / "gate", GateConfig())
    no_seed = changed(lambda r: r["refinement"].pop("parity"))
    with pytest.raises(InvalidInput, match="the report lacks what the gate checks"):
        gate(write(tmp_path, no_seed), tmp_path / "gate", GateConfig())


@pytest.mark.parametrize("bad", [{"retained": 1.1}, {"scene_type_retained": -0.1}, {"parity": 2}])
def test_thresholds_that_no_policy_meets_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="give 0 to 1"):
        GateConfig(**bad)


def test_what_is_wrong_with_the_ladder_warns_and_does_not_refuse(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    comparison = tmp_path / "comparison.json"
    comparison.write_text(json.dumps({"faults": ["small at 64×64 keeps 104 % of large"]}))
    verdict = gate(tmp_path / "report.json", tmp_path / "out", GateConfig(), comparison)
    assert verdict.passed
    assert verdict.warnings == ("ladder: small at 64×64 keeps 104 % of large",)
    assert "- ladder: small at 64×64 keeps" in (tmp_path / "out" / "gate.md").read_text()
    comparison.write_text("[]")
    with pytest.raises(InvalidInput, match="is no comparison; run compare_rungs again"):
        gate(tmp_path / "report.json", tmp_path / "out", GateConfig(), comparison)
