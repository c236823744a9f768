"""The list of experiments, in a file and in terminals of any width."""

from __future__ import annotations

import pytest

from components.experiments.query import ExperimentRow
from pipelines.experiments.display import print_rows

_REASON = "gap share 0.71 is at least 0.60, and retained 0.981 is at least 0.97 at every seed"
_ROWS = (
    ExperimentRow(
        name="longer-refinement",
        parent="baseline",
        author="cleo",
        objective="cut deadline misses",
        hypothesis="",
        expected="",
        under="longer-refinement",
        tags=(),
        error="",
        state="done",
        outcome="met",
        reason=_REASON,
        figures={},
        ended="",
        attempt="1",
        changes={},
    ),
)


def test_a_line_each_where_nothing_limits_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_rows(_ROWS)
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[:3] == ["longer-refinement", "baseline", "cleo"]
    assert _REASON in line


@pytest.mark.parametrize("width", ["40", "80", "139"])
def test_a_narrow_terminal_shows_all_of_it_below_each_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    print_rows(_ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "longer-refinement  done  met"
    assert lines[1].strip() == "cut deadline misses"
    assert " ".join(" ".join(lines[2:]).split()) == _REASON
    assert max(map(len, lines)) <= int(width)
