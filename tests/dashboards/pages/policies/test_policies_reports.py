from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from policy_samples import MadeRuns

from dashboards.pages.policies.page import default_pair
from dashboards.pages.policies.registry import registered_policies
from dashboards.pages.policies.reports import KnownPolicy, known_policies, read_judgement, unlike
from dashboards.pages.policies.runs import find_runs
from dashboards.pages.policies.trade_off import contestants, next_pair, table_rows
from foundation.errors import InvalidInput


def row(name: str, retained: float | None, ratio: float, **fields: Any) -> dict[str, Any]:
    interval = [None, None] if retained is None else [retained - 0.01, retained + 0.01]
    return {
        "name": name,
        "map": retained,
        "retained": retained,
        "retained_interval": interval,
        "mean_ms": 100 * ratio,
        "p50_ms": 1.0,
        "p95_ms": 2.0,
        "p99_ms": 3.0,
        "latency_ratio": ratio,
        "fps": 10.0 / ratio,
        "usd_per_million": ratio,
        "setting": "",
        "shares": {"nano": 0.5, "small": 0.25, "large": 0.25},
    } | fields


def report(**changes: Any) -> dict[str, Any]:
    """Fixed rungs at (0.1, 0.8) and (1, 1), the oracle straight up from the cheap one."""
    return {
        "rows": [row("always-nano", 0.8, 0.1), row("rule", 0.9, 0.55), row("gearshift", 0.94, 0.4)],
        "hull": [{"latency_ratio": 0.1, "retained": 0.8}, {"latency_ratio": 1.0, "retained": 1.0}],
        "oracle_hull": [
            {"latency_ratio": 0.1, "retained": 0.8},
            {"latency_ratio": 0.4, "retained": 1.0},
        ],
        "curve": [{"latency_weight": 0.1, "retained": 0.94, "latency_ratio": 0.4}],
        "points": {
            "rule": [{"name": "a", "retained": 0.9, "latency_ratio": 0.55}],
            "gearshift": [],
        },
        "latency_weight": 0.1,
        "scene_types": {},
        "labels": {},
        "measurement": {"dataset_sha256": "d", "machine": {"cpu": "c", "cores": 2}},
        "data": {"clips": {"judge": 3}, "frames": {"judge": 9}, "objects_judged": 5},
    } | changes


def test_the_share_of_the_gap_by_hand() -> None:
    judged = read_judgement(report(), "it")
    # At 0.4 random mixes keep 0.8 + 0.2 / 3, the oracle all.
    low = 0.8 + 0.2 * (0.4 - 0.1) / 0.9
    assert judged.policy.gap == pytest.approx((0.94 - low) / (1 - low))
    # Beyond its end the oracle's curve is held; at 0.55 random mixes keep 0.9.
    assert judged.row("rule").gap == pytest.approx(0.0)
    assert judged.row("always-nano").gap is None  # there the two meet
    assert judged.policy.interval == (0.94 - 0.01, 0.94 + 0.01)
    assert list(judged.tried) == ["rule"]
    assert judged.curve[0].setting == "latency weight 0.1"
    assert judged.passed is None


def test_what_cannot_be_retained_stays_away() -> None:
    rows = [row("gearshift", None, 0.4)]
    hull = [{"latency_ratio": 0.1, "retained": None}]
    judged = read_judgement(report(rows=rows, hull=hull, oracle_hull=hull), "it")
    assert judged.policy.retained is judged.policy.gap is judged.policy.interval is None
    assert judged.hull == ()


@pytest.mark.parametrize(
    "name", ["rows", "hull", "points", "measurement", "data", "latency_weight"]
)
def test_a_missing_figure_is_named(name: str) -> None:
    broken = report()
    del broken[name]
    with pytest.raises(InvalidInput, match=f"report of version 3 lacks.*{name}.*again"):
        read_judgement(broken, "version 3")


def test_a_figure_that_is_no_number_is_an_error_too() -> None:
    with pytest.raises(InvalidInput, match="report of it lacks figures"):
        read_judgement(report(rows=[row("gearshift", 0.9, 0.4, fps="many")]), "it")


def test_what_was_judged_otherwise_is_named() -> None:
    one = read_judgement(report(), "one")
    assert unlike(one, read_judgement(report(), "other")) == ()
    slower = {"dataset_sha256": "d", "machine": {"cpu": "c", "cores": 4}}
    assert unlike(one, read_judgement(report(measurement=slower), "other")) == ("machine",)


@pytest.fixture(scope="module")
def known(made_runs: MadeRuns) -> dict[str, KnownPolicy]:
    uri = f"sqlite:///{made_runs.runs / 'mlflow.db'}"
    found = known_policies(registered_policies(uri, "gearshift-policy"), find_runs(made_runs.runs))
    return {one.key: one for one in found}


def test_aliases_are_the_models(made_runs: MadeRuns) -> None:
    """MLflow's search for versions leaves them out."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{made_runs.runs / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    for alias in ("released", "champion"):
        client.set_registered_model_alias("gearshift-policy", alias, "1")
    try:
        (found,) = registered_policies(uri, "gearshift-policy")
        assert found.aliases == ("champion", "released")
    finally:
        for alias in ("released", "champion"):
            client.delete_registered_model_alias("gearshift-policy", alias)


def test_a_version_and_its_run_are_one_and_a_refused_run_is_there_too(
    known: dict[str, KnownPolicy], made_runs: MadeRuns
) -> None:
    assert list(known) == ["v1", "run-eager"]
    version, refused = known["v1"], known["run-eager"]
    assert version.name == "version 1"
    assert version.run is not None
    assert version.run.folder == made_runs.runs / "calm"
    assert version.policy_file == made_runs.runs / "calm" / "policy.onnx"
    assert version.judgement.passed is True
    assert refused.name == "run eager"
    assert refused.judgement.passed is False
    assert set(refused.judgement.failed) >= {"latency_ratio"}
    assert unlike(version.judgement, refused.judgement) == ()


def test_figures_are_the_reports(known: dict[str, KnownPolicy], made_runs: MadeRuns) -> None:
    report = json.loads((made_runs.runs / "calm" / "report.json").read_text())
    judged = known["v1"].judgement
    assert judged.policy.retained == report["retained"]
    assert judged.policy.gap == pytest.approx(report["gap_share"])
    assert [one.name for one in judged.rows] == [one["name"] for one in report["rows"]]


def test_without_the_run_the_registry_tells_all(
    known: dict[str, KnownPolicy], made_runs: MadeRuns
) -> None:
    alone = KnownPolicy("v1", known["v1"].version, None)
    assert alone.judgement.policy == known["v1"].judgement.policy
    assert alone.policy_file is not None
    assert (made_runs.runs / "mlartifacts") in alone.policy_file.parents
    assert alone.revision == known["v1"].revision != ""


def test_a_broken_report_states_what_to_do(made_runs: MadeRuns, tmp_path: Path) -> None:
    shutil.copytree(made_runs.runs / "eager", tmp_path / "eager")
    (tmp_path / "eager" / "report.json").write_text('{"rows": [')
    (one,) = known_policies((), find_runs(tmp_path))
    with pytest.raises(InvalidInput, match="missing or broken; run the pipeline again"):
        _ = one.judgement


def test_the_table_holds_all_policies_and_the_shown_ones_alternatives(
    known: dict[str, KnownPolicy],
) -> None:
    rows = table_rows(known["v1"], known)
    assert [row["name"] for row in rows[:2]] == ["version 1", "run eager"]
    assert [row["gate"] for row in rows[:3]] == ["passed", "refused", ""]
    assert len({row["key"] for row in rows}) == len(rows)
    names = [row["name"] for row in rows[2:]]
    assert names == [row.name for row in known["v1"].judgement.rows if row.name != "gearshift"]
    kinds = {row["name"]: row["kind"] for row in rows}
    assert kinds["always-small"] == "fixed rung"
    assert kinds["cascade"] == "alternative"
    assert kinds["oracle"] == "bound"
    assert [row["key"] for row in rows] == [one.key for one in contestants(known["v1"], known)]


def test_what_is_compared_without_a_choice(known: dict[str, KnownPolicy]) -> None:
    assert default_pair(known["v1"], known) == ("v1", "run-eager")
    alone = {"v1": known["v1"]}
    first, second = default_pair(known["v1"], alone)
    rivals = {
        row.name: row.retained or 0.0
        for row in known["v1"].judgement.rows
        if row.name not in ("gearshift", "oracle") and not row.name.startswith("always-")
    }
    assert (first, second) == ("v1", f"v1:{max(rivals, key=rivals.__getitem__)}")


def test_the_older_choice_gives_way() -> None:
    assert next_pair("a", "b", "c") == ("b", "c")
    assert next_pair("a", "b", "a") == ("b", "a")
    assert "a" not in next_pair("a", "b", "b")
    assert "a" not in next_pair("a", "b", None)
