"""Sessions become MLflow runs beside a platform that must not notice."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from processes import until

from inference_graph.prediction_log.row import SessionSummary
from inference_graph.prediction_log.writer import LogConfig, PredictionLog
from pipelines.experiments.session_recorder import SessionRecorder

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def store(folder: Path, *names: str) -> None:
    with PredictionLog(LogConfig(str(folder), flush_seconds=0.02)) as log:
        for name in names:
            log.record_session(
                SessionSummary(
                    session=name,
                    client="cam",
                    started=START,
                    ended=START + timedelta(seconds=10),
                    frames=3,
                    dropped=0,
                    shares={"nano": 1.0},
                    latency_mean_ms=20.0,
                    latency_p50_ms=15.0,
                    latency_p95_ms=90.0,
                    savings=0.5,
                    shadow_frames=0,
                    agreement_mean=None,
                    fallbacks=0,
                    policy_revision="0123456789ab",
                    latency_weight=0.1,
                    tags={},
                )
            )


def runs(uri: str) -> set[str]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("mine")
    if found is None:
        return set()
    return {run.info.run_name for run in client.search_runs([found.experiment_id])}


def test_sessions_are_recorded_while_it_runs_and_once_more_at_the_end(tmp_path: Path) -> None:
    log, uri = tmp_path / "log", f"sqlite:///{tmp_path / 'mlflow.db'}"
    reported: list[str] = []
    with SessionRecorder(str(log), uri, "mine", reported.append, 0.05, 120) as recorder:
        recorder.start()  # before there is a log
        store(log, "first")
        until(lambda: len(reported) == 1)
        assert runs(uri) == {"first"}
        recorder._every_seconds = 600.0  # from now on only the end can have looked
        time.sleep(0.2)
        store(log, "second", "third")
    assert runs(uri) == {"first", "second", "third"}
    assert reported[0] == f"recorded 1 stream session as MLflow runs of mine at {uri}"
    assert [text for text in reported if "warning" in text] == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "nonsense://here"])
def test_a_store_that_fails_is_reported_once_and_stops_nothing(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store(tmp_path / "log", "first")
    reported: list[str] = []
    with SessionRecorder(str(tmp_path / "log"), uri, "mine", reported.append, 0.01) as recorder:
        recorder.start()
        until(lambda: bool(reported))
        time.sleep(0.5)  # many more looks
    assert reported[0].startswith("warning: sessions are not recorded now: ")
    assert "gearshift sessions --log" in reported[-1] and uri in reported[-1]
    assert len([text for text in reported if text == reported[0]]) == 1


def test_one_that_hangs_does_not_keep_the_command(tmp_path: Path) -> None:
    """A tracking server that takes the connection and sends nothing."""
    program = f"""
import socket, sys, time
from pipelines.experiments.session_recorder import SessionRecorder
listening = socket.create_server(("127.0.0.1", 0))
uri = f"http://127.0.0.1:{{listening.getsockname()[1]}}"
with SessionRecorder({str(tmp_path / "log")!r}, uri, "mine", print, 0.01, 0.5) as recorder:
    recorder.start()
    listening.accept()
print("mlflow" in sys.modules)
"""
    store(tmp_path / "log", "first")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True
    )
    assert "warning: MLflow took too long for the last sessions" in done.stdout
    assert done.stdout.splitlines()[-1] == "True"


def test_without_a_session_mlflow_is_not_imported(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pipelines.cli.platform_display import PlatformOptions
from pipelines.experiments.session_recorder import SessionRecorder
with SessionRecorder({str(tmp_path)!r}, "sqlite:///x.db", "mine", print, 0.01) as recorder:
    recorder.start()
    time.sleep(0.3)
print("mlflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout == "False\n"
