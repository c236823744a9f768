"""What the experiments' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def no_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test's own experiments."""
    monkeypatch.setattr("components.experiments.ledger.SHIPPED", tmp_path / "none")


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, no_shipped: None) -> object:
    """The pipeline that takes no time, in place of the real one."""
    from launch_samples import Pipeline  # imports torch, which most tests here do without

    made = Pipeline()
    monkeypatch.setattr("pipelines.experiments.launch.run_sealed", made.run)
    monkeypatch.setattr("pipelines.experiments.launch.inputs_here", made.inputs)
    return made


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs, to be copied: making one takes seconds."""
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").get_experiment_by_name("none")
    return file
