"""A store of feedback in a folder, and a log to go with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feedback_samples import CLASSES

from components.feedback.store import FeedbackConfig, FeedbackStore
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

OpenStore = Callable[..., FeedbackStore]


@pytest.fixture
def open_store(tmp_path: Path) -> OpenStore:
    """Opens the store in this test's folder, as it is by then."""

    def opened(**options: Any) -> FeedbackStore:
        given = {"store": tmp_path / "store", "log": str(tmp_path / "log")} | options
        return FeedbackStore(FeedbackConfig(**given), CLASSES)

    return opened


@pytest.fixture
def logged(tmp_path: Path) -> Callable[..., None]:
    """Writes answers and feedback to this test's log."""

    def write(rows: Any = (), feedback: Any = ()) -> None:
        with PredictionLog(LogConfig(str(tmp_path / "log"))) as log:
            for row in rows:
                log.append(row)
            for piece in feedback:
                log.append_feedback(piece)

    return write
