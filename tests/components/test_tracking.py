"""MLflow's address is checked before MLflow makes something else of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from processes import closed_port

from components.evaluation.stream_sessions import record_sessions
from components.tracking import check_address, database_beside, database_in, tracking_client
from foundation.errors import ConfigurationError, StorageError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    "uri",
    ["./mlruns", "mlruns", "nonsense://x", "file:///mlruns", "http://", "http://:80/", "s3://x/y"]
    + ["http://host:port/", "sqlite:///a?b/mlflow.db", "sqlite:///a%20b.db", "sqlite:///a\nb", ""],
)
def test_what_is_no_address_is_refused_in_one_line(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        record_sessions(str(tmp_path), uri)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "a#b", "a'b", 'a"b', "ä", "-a", "a;b", "a&b=c", "a:b@c"])
def test_a_folder_of_any_other_name_holds_its_database(name: str, tmp_path: Path) -> None:
    uri = database_beside(tmp_path / name / "demo")
    assert uri == database_in(tmp_path / name)
    assert check_address(uri) == f"sqlite:///{(tmp_path / name).resolve()}/mlflow.db"


def test_a_database_lies_at_its_address(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c'ä"
    folder.mkdir()
    tracking_client(database_in(folder)).search_experiments()
    assert database_beside(folder) == database_in(folder)  # one of its own, of an earlier version
    assert (folder / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_database_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not there"):
        tracking_client(f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")
    with pytest.raises(StorageError, match="is a folder"):
        tracking_client(f"sqlite:///{tmp_path}")


def test_a_database_that_does_not_answer_is_given_up_on_at_once(tmp_path: Path) -> None:
    """MLflow alone tries for 102 s, and prints each time."""
    other = tmp_path / "other.db"
    other.write_bytes(b"no database of any kind, " * 100)
    start = time.monotonic()
    for uri, match in (
        (f"postgresql://user:secret@127.0.0.1:{closed_port()}/mlflow", "refused"),
        (f"sqlite:///{other}", "not a database"),
        ("sqlite:////proc/mlflow.db", "unable to open"),
        ("postgresql://host:port/mlflow", "int"),
    ):
        with pytest.raises(StorageError, match=match) as caught:
            tracking_client(uri)
        assert len(str(caught.value).splitlines()) == 1
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="needs a driver that is not installed"):
        tracking_client("mssql://user@127.0.0.1/mlflow")
    assert time.monotonic() - start < 60


def test_a_server_that_is_away_is_reported_at_once() -> None:
    uri = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(StorageError, match=r"does not answer .*refused"):
        tracking_client(uri)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
