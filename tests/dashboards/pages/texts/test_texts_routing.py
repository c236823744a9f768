"""The page's table of rungs, without a browser."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dashboards.log.frames import LoggedFrame
from dashboards.pages.texts.page import _routing


def frame(**values: Any) -> LoggedFrame:
    """An answer with one line of text."""
    given = {"boxes": [1, 1, 9, 9], "scores": [0.9], "labels": [0], "texts": ["EXIT"]}
    return LoggedFrame({"answered_by": "nano", **given, **values})


@pytest.mark.parametrize("spent", [{"detect_ms": 0.0, "shadow_ms": 0.0}, {"detect_ms": None}, {}])
def test_times_that_are_zero_or_missing_divide_nothing(spent: dict[str, Any]) -> None:
    shown = json.dumps(_routing([frame(**spent)]).to_plotly_json(), default=repr)
    assert not re.search(r"\b(nan|inf)\b", shown)
