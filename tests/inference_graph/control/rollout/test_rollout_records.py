"""A folder of rollouts whose record or state cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_rollout_controller import QUICK, RecordedTraffic

from foundation.errors import InvalidInput, StorageError
from inference_graph.control.rollout.controller import Controller, start
from inference_graph.control.rollout.state import read_state


def test_a_rollout_without_a_record_does_not_begin(tmp_path: Path) -> None:
    weights = tmp_path / "small.onnx"
    weights.write_bytes(b"new weights")
    folder = tmp_path / "rollout"
    (folder / "audit.jsonl").mkdir(parents=True)
    with pytest.raises(StorageError):
        start(folder, "small", str(weights), QUICK, "anna")
    assert read_state(folder) is None
    assert list((folder / "files").iterdir()) == []


def test_a_broken_state_without_a_record_is_left_for_people(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(InvalidInput, match="restore or remove it"):
        Controller(tmp_path, str(tmp_path / "log"), RecordedTraffic()).tick()
    assert (tmp_path / "state.json").read_text() == "{"
    (tmp_path / "state.json").unlink()
    (tmp_path / "state.json").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        read_state(tmp_path)
