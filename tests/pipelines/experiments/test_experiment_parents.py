"""Contracts that are compared with the parent's figures, fixed before the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_samples import contract, write
from launch_samples import VERSIONS, Pipeline, ledger_in

from components.experiments.document import Contract
from components.experiments.export import differences_markdown
from components.experiments.ledger import Ledger
from components.experiments.outcome import Expectation, read_formula
from components.experiments.results import result_differences
from components.experiments.scoring import score
from components.experiments.verify import verify
from foundation.errors import ConfigurationError
from pipelines.experiments.launch import launch_here, seal_launch
from pipelines.experiments.views import difference_view, score_again
from pipelines.training.sealed_run import Inputs


@pytest.fixture
def ledger(tmp_path: Path, pipeline: Pipeline, empty_mlflow: Path) -> Ledger:
    better = contract(expected="retained > parent.retained and latency_ratio <= 0.4")
    # 1e-3 retains 1, the parent's 3e-4 retains 0.8693 (see ``Pipeline``).
    write(
        tmp_path, "better", extends="base", contract=better, set={"refine": {"learning_rate": 1e-3}}
    )
    write(tmp_path, "same", extends="base", contract=better)
    write(tmp_path, "orphan", contract=better)
    write(tmp_path, "dense", extends="base", contract=contract(expected="parent.gap_share < 1"))
    return ledger_in(tmp_path, empty_mlflow)


def run(ledger: Ledger, name: str) -> str:
    attempt = seal_launch(ledger, name)
    launch_here(ledger, attempt)
    return ledger.index.attempt(attempt.attempt).verdict


def test_a_child_is_met_only_where_it_beats_its_parent(ledger: Ledger) -> None:
    run(ledger, "base")
    assert run(ledger, "better") == "met"
    assert run(ledger, "same") == "missed"  # what the parent does already proves nothing
    better = ledger.index.attempt("better.1")
    assert better.reason == "retained is 1, parent.retained is 0.8693, latency_ratio is 0.3"
    assert "parent.retained" not in better.figures
    sealed = ledger.records.seal_of(better.run_id)
    assert sealed.content["parent"] == {
        "attempt": "base.1",
        "figures": {"retained": pytest.approx(0.8693, abs=1e-4)},
    }
    # A later launch of the parent changes nothing: the figure was fixed before the run.
    run(ledger, "base")
    assert score_again(ledger, "better")["verdict"] == "met"
    assert {one.verdict for one in verify(ledger, ledger.index.attempts())} == {"intact"}


def test_two_experiments_are_compared_by_results_too(ledger: Ledger) -> None:
    assert difference_view(ledger, "base", "better")["results"]["figures"] == []
    run(ledger, "base")
    run(ledger, "better")
    view = difference_view(ledger, "base", "better")
    assert [one["path"] for one in view["differences"]] == ["refine.learning_rate"]
    results = view["results"]
    assert (results["first"]["attempt"], results["second"]["verdict"]) == ("base.1", "met")
    retained, latency = results["figures"]
    assert (retained["metric"], retained["second"]) == ("retained", 1.0)
    assert retained["change"] == pytest.approx(1 - 0.86928, abs=1e-5)
    assert latency["change"] == 0
    found = result_differences(ledger, "base", "better")
    text = differences_markdown("base", "better", ledger.differences("base", "better"), found)
    assert "| outcome | missed | met |" in text and "| retained | 0.8693 | 1 | +0.1307 |" in text


def test_a_comparison_with_nothing_is_refused_before_the_run(
    ledger: Ledger, pipeline: Pipeline
) -> None:
    with pytest.raises(ConfigurationError, match="base, which has no finished launch"):
        seal_launch(ledger, "better")
    with pytest.raises(ConfigurationError, match="orphan is compared with its parent .* and has"):
        seal_launch(ledger, "orphan")
    run(ledger, "base")
    with pytest.raises(ConfigurationError, match="gap_share of base.1, whose report has none"):
        seal_launch(ledger, "dense")
    other = Inputs("elsewhere", "", {**VERSIONS, "data_version": "e"})
    with pytest.raises(ConfigurationError, match="no finished launch on the same data"):
        seal_launch(ledger, "better", inputs=other)
    launch_here(ledger, seal_launch(ledger, "base", {"refine.learning_rate": 1e-2}))
    seal_launch(ledger, "better")
    (attempt,) = ledger.attempts("better")
    # base.2 set an option in another way, so it proves nothing of base.
    assert ledger.records.seal_of(attempt.run_id).content["parent"]["attempt"] == "base.1"


def test_a_seal_without_the_figures_is_void(ledger: Ledger) -> None:
    run(ledger, "base")
    sealed = ledger.records.seal_of(ledger.index.attempt("base.1").run_id)
    changed = {**sealed.content, "contract": Contract("o", "h", "retained > parent.retained", "a")}
    object.__setattr__(sealed, "content", {**changed, "contract": changed["contract"].__dict__})
    found = score(sealed, {"retained": 0.9})
    assert (found.verdict, found.reason) == ("void", "the report has no parent.retained")


def test_only_metrics_of_a_report_can_be_the_parents() -> None:
    read = Expectation.read("parent.rows.oracle.p95_ms > 1 and retained > 0")
    assert read.parent_metrics == ("rows.oracle.p95_ms",)
    for text in ("parent.parent.retained > 0", "parent.retaned > 0", "parent > 0"):
        with pytest.raises(ConfigurationError, match="is not known"):
            Expectation.read(text)
    with pytest.raises(ConfigurationError, match="metrics of the run alone"):
        read_formula("retained - parent.retained")
