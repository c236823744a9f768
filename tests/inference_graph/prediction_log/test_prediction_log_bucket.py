"""The log in a bucket, against moto's S3 server over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from buckets import make_bucket, s3_server
from log_samples import NOON, row
from processes import until

from foundation.errors import ConfigurationError, StorageError
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.row import SessionSummary
from inference_graph.prediction_log.session_files import read_sessions
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

OPTIONS = "scheme=http&region=us-east-1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Host and port."""
    with s3_server(monkeypatch) as (host, port):
        yield f"{host}:{port}"


def keys(server: str) -> list[str]:
    s3 = boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1")
    found = s3.list_objects_v2(Bucket="fleet").get("Contents", [])
    return [one["Key"] for one in found if not one["Key"].endswith("/")]


def test_a_bucket_holds_parts_and_sessions(server: str, tmp_path: Path) -> None:
    make_bucket(server, "fleet")
    url = f"s3://fleet/log?endpoint_override={server}&{OPTIONS}"
    config = LogConfig(url, tmp_path, flush_seconds=0.02)
    summary = SessionSummary(
        session="cam", client="c", started=NOON, ended=NOON, frames=5, dropped=0, shares={}
    )
    with PredictionLog(config) as log:
        for index in range(5):
            log.append(row(f"e{index}", time=NOON + timedelta(minutes=20 * index)))
        log.record_session(summary)
        assert log.flush()
        before = read_log(url, journal=tmp_path)["event_id"].to_pylist()
    assert before == [f"e{index}" for index in range(5)]
    first, second, session = keys(server)
    assert first.startswith("log/predictions/date=2026-11-21/hour=12/part-")
    assert second.startswith("log/predictions/date=2026-11-21/hour=13/part-")
    assert session == "log/sessions/cam.20261121T120000000000.json"
    assert read_log(url, journal=tmp_path)["event_id"].to_pylist() == before
    later = read_log(url, since=NOON + timedelta(hours=1), journal=tmp_path)
    assert later["event_id"].to_pylist() == ["e3", "e4"]
    assert list(read_sessions(url, tmp_path).values()) == [summary]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    with PredictionLog(config) as log:
        log.append(row("e5"))
    assert len(read_log(url, journal=tmp_path)) == 6


def test_a_bucket_that_is_out_of_reach_gets_its_rows_later(server: str, tmp_path: Path) -> None:
    url = f"s3://late/log?endpoint_override={server}&{OPTIONS}"
    reported: list[StorageError] = []
    config = LogConfig(url, tmp_path, flush_seconds=0.02, roll_seconds=1)
    log = PredictionLog(config, reported.append)
    log.append(row("e0"))
    assert log.flush()  # the local disk has it
    until(lambda: reported)
    assert "the log at s3://late/log cannot be written" in str(reported[0])
    assert log.status.failure is not None
    log.append(row("e1"))
    assert log.flush()
    make_bucket(server, "late")
    status = log.close()
    assert status.failure is None and status.backlog_bytes == 0
    assert (status.stored, status.dropped, status.outages) == (2, 0, 1)
    assert read_log(url, journal=tmp_path)["event_id"].to_pylist() == ["e0", "e1"]


def test_names_of_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    secret = open_place(f"s3://key:secret@fleet/log?endpoint_override=127.0.0.1:9&{OPTIONS}")
    assert secret.name == "s3://fleet/log"
    assert secret.journal.parent == tmp_path / "gearshift" / "journal"
    assert secret.folder is None and secret.root == "fleet/log"
    cloud = open_place("gs://fleet/a/log/?endpoint_override=127.0.0.1:9&scheme=http")
    assert (cloud.name, cloud.root) == ("gs://fleet/a/log/", "fleet/a/log")
    folder = open_place(f"file://{tmp_path}/log")
    assert folder.folder == tmp_path / "log" and folder.journal == tmp_path / "log" / "journal"
    assert open_place("runs/log").folder == Path("runs/log").absolute()
    for url in ("runs/\udcff", "http://[", "s3://x:99999/log"):
        with pytest.raises(ConfigurationError, match="not in UTF-8|cannot be read"):
            open_place(url)
    for url in ("", "http://host/log", "s3://fleet/log?colour=red"):
        with pytest.raises(ConfigurationError, match="log url"):
            open_place(url)
