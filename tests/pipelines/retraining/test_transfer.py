"""retrain --from: what it hands to the training pipeline, and what it reports of the labels."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.policy.clone import CloneConfig
from components.policy.learning_curve import LearningCurves, LearningPoint
from foundation.errors import ConfigurationError, InvalidInput
from pipelines.retraining import transfer as module
from pipelines.retraining.transfer import saving, transfer

POINT = LearningPoint(100, 0.2, 0.5, 0.3, (0.25, 0.35), 640)


@contextlib.contextmanager
def bar(*_: str) -> Iterator[Any]:
    yield lambda *_: None


def test_the_pipeline_starts_from_a_file_named_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, out = tmp_path / "older.onnx", tmp_path / "out"
    older.write_bytes(b"a policy")
    asked: list[Any] = []

    def run_training(*given: Any, **_: Any) -> Any:
        asked.append(given[:4])
        return SimpleNamespace(passed=True, outcome="registered as version 1")

    def learning_curves(replay: Path, start: Path, recipe: CloneConfig, *_: Any) -> Any:
        asked.append((replay, start, recipe.steps))
        return LearningCurves(0.25, (POINT,))

    monkeypatch.setattr(module, "network_of", lambda file: None)
    monkeypatch.setattr(module, "run_training", run_training)
    monkeypatch.setattr(module, "learning_curves", learning_curves)
    settings = {"clone": {"steps": 30}, "split": {"seed": 1}}
    found = transfer(older, "new.zip", out, "ladder", settings, bar, bar)
    (trained, measured) = asked
    start = out / f"start-{found.start}.onnx"
    assert start.read_bytes() == b"a policy"
    wanted = {"clone": {"steps": 30, "start": str(start)}, "split": {"seed": 1}}
    assert trained == ("new.zip", "ladder", out, wanted)
    assert measured == (out / "replay", start, 30)
    written = json.loads((out / "transfer.json").read_text())
    assert (written["unchanged"], written["points"][0]["frames"]) == (0.25, 100)
    assert found.saving == (saving(POINT),)


def test_what_is_missing_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--data"):
        transfer(tmp_path / "a.onnx", "", tmp_path, "", {}, bar, bar)
    with pytest.raises(InvalidInput, match="no file"):
        transfer(tmp_path / "a.onnx", "new.zip", tmp_path, "", {}, bar, bar)


def test_a_point_states_what_it_saves() -> None:
    assert saving(POINT) == (
        "100 labelled frames: 50.0% of the labels' gain from the older policy, 20.0% from nothing "
        "(+30.0%, 95 % interval +25.0% to +35.0%); from nothing 640 are needed for the same"
    )
