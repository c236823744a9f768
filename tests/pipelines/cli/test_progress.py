"""Progress where standard error is no terminal."""

from __future__ import annotations

import pytest

from pipelines.cli import console


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the bars see, in seconds; the test sets it."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_every_tenth_and_every_half_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress_bar("frames") as move:
        for second, done in ((5, 3), (29, 9), (31, 12), (40, 19), (45, 20), (74, 29), (75, 29)):
            clock[0] = second
            move(done, 100)
    # 9 came too early and 10 % is a tenth; 30 s after the line of 20 % there is another one.
    assert lines_of(capsys) == [
        "frames: 12 % (12 of 100)",
        "frames: 20 % (20 of 100)",
        "frames: 29 % (29 of 100)",
    ]


def test_work_without_a_known_end_says_that_it_began(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress_bar("frames") as move:
        for second, done in ((0, 1), (1, 2), (29, 300), (31, 310), (60, 590), (62, 600)):
            clock[0] = second
            move(done, None)
    assert lines_of(capsys) == ["frames: 1", "frames: 310", "frames: 600"]
