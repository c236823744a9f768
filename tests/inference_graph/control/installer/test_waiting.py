"""Waiting for what serves, while the API server comes and goes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundation.errors import DeadlineExceeded, Forbidden, Unavailable
from inference_graph.control.installer import install as room
from inference_graph.control.installer.serving import Serving

PLAN: Any = SimpleNamespace(overlay=None, seconds=60.0, folder=Path())


def test_an_api_server_that_is_away_for_a_moment_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([Unavailable("no route"), DeadlineExceeded("30 s"), Serving((), ())])
    message: list[str] = []

    def look(kubectl: Any, overlay: Any) -> Serving:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(room, "look", look)
    monkeypatch.setattr(room, "_PAUSE", 0)
    room._until_it_serves(Any, PLAN, message.append)
    assert message == ["no route", "30 s"]


def test_a_refusal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(kubectl: Any, overlay: Any) -> Serving:
        raise Forbidden("not yours")

    monkeypatch.setattr(room, "look", look)
    with pytest.raises(Forbidden):
        room._until_it_serves(Any, PLAN, print)
