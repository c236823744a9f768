"""A worker that fails for a reason it does not know connects again."""

from __future__ import annotations

import asyncio

import pytest

from foundation.errors import ConfigurationError
from inference_graph.streams.worker import StreamWorker


def test_an_unknown_failure_is_reported_and_the_worker_connects_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = StreamWorker.__new__(StreamWorker)
    worker.problem = ""
    worker._broker = None
    problems: list[str] = []
    errors = [TypeError("expected bytes"), ConfigurationError("no client library")]

    async def serve(self: StreamWorker) -> None:
        problems.append(self.problem)
        raise errors[len(problems) - 1]

    monkeypatch.setattr(StreamWorker, "_serve", serve)
    with pytest.raises(ConfigurationError, match="no client library"):
        asyncio.run(worker.run())
    assert problems == ["", "the worker failed; its log says why"]
