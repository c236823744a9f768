"""Runs without an experiment of their own: launches of a child, never verdicts on the baseline."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from launch_samples import Pipeline

from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.query import Question
from components.experiments.scoreboard import scoreboard
from components.experiments.verify import verify
from foundation.errors import StepFailed
from pipelines.experiments.schema import open_ledger
from pipelines.training.run import run_training


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    made = Pipeline()
    monkeypatch.setattr("pipelines.experiments.launch.run_sealed", made.run)
    for module in ("pipelines.experiments.launch", "pipelines.training.run"):
        monkeypatch.setattr(f"{module}.inputs_here", made.inputs)
    return made


@pytest.fixture
def config(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> LedgerConfig:
    monkeypatch.chdir(tmp_path)
    made = LedgerConfig(tmp_path / "own", tmp_path / "runs" / "experiments")
    made.ledger.mkdir(parents=True)
    shutil.copy(empty_mlflow, made.ledger)
    return made


def run(config: LedgerConfig, name: str, data: str = "", kind: str = "run", **stages: Any) -> None:
    out = config.ledger.parent / name
    run_training(data, "", out, stages, ledger=config, kind=kind)


def rows(ledger: Ledger, name: str) -> list[tuple[str, str, str]]:
    found = ledger.find(Question("", (f"parent={name}",))).rows
    return sorted((row.name, row.outcome, " ".join(row.tags)) for row in found if row.attempt)


def test_own_data_options_and_failures_are_children_of_the_baseline(
    config: LedgerConfig, pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    run(config, "base")  # the shipped defaults: a launch of the baseline itself
    run(config, "my photos!", "photos")
    run(config, "again", "photos")
    run(config, "slow", refine={"learning_rate": 1e-3})
    run(config, "slow", refine={"learning_rate": 1e-3})  # the same once more
    run(config, "slow", refine={"learning_rate": 1e-4})
    run(config, "baseline", "photos", kind="retraining")  # a name that is taken

    def fail(options: Any) -> None:
        raise StepFailed("step refine failed: no clips; its whole log: x")

    pipeline.ends = fail
    with pytest.raises(StepFailed):
        run(config, "broken", "photos", clone={"seeds": 1})
    ledger = open_ledger(config)
    assert rows(ledger, "baseline") == [
        ("again", "missed", "run"),
        ("baseline-2", "missed", "retraining"),
        ("broken", "void", "run"),
        ("my-photos", "missed", "run"),
        ("slow", "met", "run"),
        ("slow-2", "missed", "run"),
    ]
    assert len(ledger.attempts("slow")) == 2 and len(ledger.attempts("baseline")) == 1
    child = ledger.experiment("my-photos")
    assert child.changes == {"inputs.data": str(tmp_path / "photos")}
    assert child.file == config.ledger / "launched" / "my-photos.yaml"
    assert not config.experiments.exists()
    assert [one.name for one in scoreboard(ledger.index).authors] == ["gearshift"]
    (author,) = scoreboard(ledger.index).authors
    assert (author.met, author.missed, author.void) == (0, 1, 0)  # the baseline's own launch
    assert {one.verdict for one in verify(ledger, ledger.index.attempts())} == {"intact"}
    ledger.close()


def test_where_a_policy_is_registered_is_no_other_experiment(
    config: LedgerConfig, pipeline: Pipeline
) -> None:
    run(config, "base", register={"model_name": "other"})
    ledger = open_ledger(config)
    (attempt,) = ledger.attempts("baseline")
    assert attempt.overrides == {
        "register.model_name": "other",
        "register.tracking_uri": ledger.records.tracking_uri,
    }
    ledger.close()


def test_a_start_that_fails_is_no_verdict_on_what_was_judged(
    config: LedgerConfig, pipeline: Pipeline
) -> None:
    run(config, "base")

    def fail(options: Any) -> None:
        raise StepFailed("step refine failed: the disk is full; its whole log: x")

    pipeline.ends = fail
    with pytest.raises(StepFailed):
        run(config, "base")
    ledger = open_ledger(config)
    assert [one.verdict for one in ledger.attempts("baseline")] == ["missed", "void"]
    (row,) = [one for one in ledger.find(Question()).rows if one.name == "baseline"]
    assert (row.attempt, row.state, row.outcome) == ("baseline.1", "succeeded", "missed")
    ledger.rebuild()
    (row,) = [one for one in ledger.find(Question()).rows if one.name == "baseline"]
    assert row.attempt == "baseline.1"
    (author,) = scoreboard(ledger.index).authors
    assert (author.missed, author.void) == (1, 0)
    ledger.close()
