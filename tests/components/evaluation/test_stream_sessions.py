from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from components.evaluation.stream_sessions import DEFAULT_EXPERIMENT, SESSION_TAG, record_sessions
from foundation.errors import ConfigurationError, InvalidInput, StorageError
from inference_graph.prediction_log.row import SessionSummary
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def summary(session: str, **fields: Any) -> SessionSummary:
    given: dict[str, Any] = {
        "session": session,
        "client": "cam",
        "started": START,
        "ended": START + timedelta(seconds=10),
        "frames": 300,
        "dropped": 3,
        "shares": {"nano": 0.75, "large": 0.25},
        "latency_mean_ms": 20.0,
        "latency_p50_ms": 15.0,
        "latency_p95_ms": 90.0,
        "savings": 0.625,
        "shadow_frames": 15,
        "agreement_mean": 0.875,
        "fallbacks": 1,
        "policy_revision": "0123456789ab",
        "latency_weight": 0.1,
        "tags": {"condition": "night", "site: 1": "x" * 400},
    }
    return SessionSummary(**given | fields)


def store(folder: Path, *summaries: SessionSummary) -> None:
    with PredictionLog(LogConfig(str(folder), flush_seconds=0.02)) as log:
        for one in summaries:
            log.record_session(one)
        assert log.flush(30)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all: making its tables is what takes time."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def runs(uri: str, experiment: str = DEFAULT_EXPERIMENT) -> dict[str, Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def test_each_session_is_one_run(tmp_path: Path, uri: str) -> None:
    before = mlflow.get_tracking_uri()
    log = tmp_path / "log"
    short = summary("still", latency_mean_ms=None, savings=None, agreement_mean=None, tags={})
    store(log, summary("cam-1"), short)
    assert record_sessions(str(log), uri) == 2
    assert record_sessions(str(log), uri) == 0
    store(log, summary("cam-2"), summary("cam-1"))  # the second is the same session again
    assert record_sessions(str(log), uri) == 1
    found = runs(uri)
    assert set(found) == {"cam-1", "still", "cam-2"}
    run = found["cam-1"]
    assert run.info.status == "FINISHED"
    assert run.info.start_time == START.timestamp() * 1000
    assert run.info.end_time - run.info.start_time == 10_000
    assert run.data.metrics == {
        "frames": 300,
        "dropped": 3,
        "fallbacks": 1,
        "seconds": 10,
        "share_nano": 0.75,
        "share_small": 0,
        "share_large": 0.25,
        "latency_mean_ms": 20,
        "latency_p50_ms": 15,
        "latency_p95_ms": 90,
        "savings": 0.625,
        "shadow_frames": 15,
        "agreement_mean": 0.875,
    }
    assert run.data.params == {
        "client": "cam",
        "policy_revision": "0123456789ab",
        "latency_weight": "0.1",
    }
    assert run.data.tags[SESSION_TAG] == "cam-1.20261121T120000000000.json"
    assert run.data.tags["session.condition"] == "night"
    assert run.data.tags["session.site_ 1"] == "x" * 250
    assert "savings" not in found["still"].data.metrics
    assert mlflow.get_tracking_uri() == before


def test_a_recording_that_was_cut_short_is_finished(tmp_path: Path, uri: str) -> None:
    store(tmp_path / "log", summary("cam-1"))
    client = MlflowClient(uri)
    experiment = client.create_experiment("mine")
    tags = {SESSION_TAG: "cam-1.20261121T120000000000.json"}
    begun = client.create_run(experiment, tags=tags, run_name="cam-1")
    assert record_sessions(str(tmp_path / "log"), uri, "mine") == 1
    assert record_sessions(str(tmp_path / "log"), uri, "mine") == 0
    (run,) = client.search_runs([experiment])
    assert run.info.run_id == begun.info.run_id and run.info.status == "FINISHED"
    assert run.data.metrics["frames"] == 300


def test_what_cannot_be_recorded(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert record_sessions(str(tmp_path / "nothing"), uri) == 0
    with pytest.raises(ConfigurationError, match="no name"):
        record_sessions(str(tmp_path), uri, " ")
    store(tmp_path / "log", summary("cam-1"))
    with pytest.raises(StorageError, match="MLflow at"):
        record_sessions(str(tmp_path / "log"), "http://127.0.0.1:9", "x")
    (tmp_path / "log" / "sessions" / "broken.json").write_text("{")
    with pytest.raises(InvalidInput, match="broken.json"):
        record_sessions(str(tmp_path / "log"), uri)
