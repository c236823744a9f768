"""Streams whose answers are fused over the frames, against states worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import (
    Message,
    Rungs,
    Served,
    asked,
    climbing_weights,
    gateway_settings,
    jpeg,
    served,
    talk,
)
from tiny_models import MakePolicy

from inference_graph.prediction_log.reader import read_log

Start = Callable[..., Served]


@pytest.fixture
def start(make_policy: MakePolicy, rungs: Rungs, tmp_path: Path) -> Iterator[Start]:
    """A gateway that tracks: nano, small and large look in turn, and see 1, 2 and 3 objects."""
    with ExitStack() as stack:

        def run(**options: Any) -> Served:
            bias, notes = (1.0, 0.0, 0.0), options.pop("notes", {})
            policy = make_policy(climbing_weights(), bias=bias, notes=notes)
            given = {"policy": policy, "track": True, "log_url": str(tmp_path / "log"), **options}
            return stack.enter_context(served(gateway_settings(**given), rungs))

        yield run


@pytest.fixture
def tracking(start: Start) -> Served:
    return start()


def streamed(gateway: Served, query: str = "", frames: int = 5) -> list[Message]:
    return talk(gateway.stream + query, lambda stream: asked(stream, *map(jpeg, range(frames))))


def states(answers: list[Message]) -> list[list[tuple[Any, ...]]]:
    return [
        [(one["track"], one["age"], one["name"], one["score"]) for one in answer["detections"]]
        for answer in answers
    ]


def test_an_object_that_a_lighter_rung_misses_is_carried_on(tracking: Served) -> None:
    answers = streamed(tracking)
    assert [answer["answered_by"] for answer in answers] == [
        *("nano", "small", "large", "nano", "small")
    ]
    car, person = (0, 0, "car", 0.8), (1, 0, "person", 0.6)
    assert states(answers) == [
        [car],
        [car, person],
        [car, person, (2, 0, "person", 0.3)],
        # Nano misses both persons: their scores halve, and .15 is below the answer's .25.
        [car, (1, 1, "person", 0.3)],
        [car, person],
    ]
    assert all(answer["milliseconds"]["track"] > 0 for answer in answers)


def test_the_log_keeps_what_the_rung_itself_saw(tracking: Served) -> None:
    streamed(tracking)
    assert tracking.runtime.log.flush()
    rows = read_log(tracking.runtime.settings.log_url).sort_by("frame_id").to_pylist()
    assert [row["detections"] for row in rows] == [1, 2, 3, 1, 2]


def test_a_stream_may_do_without(tracking: Served) -> None:
    answers = streamed(tracking, "?track=off")
    assert [len(answer["detections"]) for answer in answers] == [1, 2, 3, 1, 2]
    assert not any("track" in one for answer in answers for one in answer["detections"])
    assert "track" not in answers[0]["milliseconds"]


def test_a_single_image_has_no_memory(tracking: Served) -> None:
    image = {"content": jpeg(), "headers": {"content-type": "image/jpeg"}}
    for _ in range(2):
        (found,) = tracking.http.post("/v1/detect", **image).json()["detections"]
        assert "track" not in found


def test_a_stream_asks_for_tracks_where_they_are_off(gateway: Served) -> None:
    (answer,) = streamed(gateway, "?track=on", 1)
    assert [one["track"] for one in answer["detections"]] == [0]


def test_tracks_of_two_streams_are_their_own(tracking: Served) -> None:
    first, second = streamed(tracking, frames=4), streamed(tracking, frames=1)
    assert states(first)[-1][-1] == (1, 1, "person", 0.3)
    assert states(second) == [[(0, 0, "car", 0.8)]]


def test_tracks_go_on_when_a_rung_fails(tracking: Served, rungs: Rungs) -> None:
    async def session(stream: Any) -> list[Message]:
        before = await asked(stream, jpeg(0), jpeg(1), jpeg(2))
        for rung in ("nano", "small"):
            rungs[rung].failing = True
        return before + await asked(stream, jpeg(3))

    *_, last = talk(tracking.stream, session)
    assert (last["rung"], last["answered_by"], last["fallback"]) == ("nano", "large", "failed")
    assert [one[:2] for one in states([last])[0]] == [(0, 0), (1, 0), (2, 0)]


def test_a_frame_of_another_size_starts_anew(tracking: Served) -> None:
    frames = (jpeg(0), jpeg(1, size=(192, 256)))
    answers = talk(tracking.stream, lambda stream: asked(stream, *frames))
    assert [one[0] for one in states(answers)[1]] == [1, 2]  # ids are never given twice


DOUBTFUL: dict[str, Any] = {"reuse_frames": 2, "reuse_doubt": 9.0}
RELEASED = {"gearshift.reuse": '{"longest": 1, "doubt": 0.1}'}


def gears(answers: list[Message]) -> list[str]:
    return [answer["answered_by"] for answer in answers]


def test_tracks_answer_so_many_frames_in_a_row(start: Start) -> None:
    gateway = start(**DOUBTFUL)
    answers = streamed(gateway, "?session=a", frames=8)
    assert gears(answers) == ["nano", *["reuse"] * 2, "small", *["reuse"] * 2, "large", "reuse"]
    # The policy is asked on every frame, and knows the last look.
    assert [answer["rung"] for answer in answers] == [
        *("nano", "small", "small", "small", "large", "large", "large", "nano")
    ]
    assert states(answers)[4:6] == [
        [(0, age, "car", 0.8), (1, age, "person", 0.6)] for age in (1, 2)
    ]
    assert {(answer["fallback"], answer["milliseconds"]["detect"]) for answer in answers[1:3]} == {
        ("", 0.0)
    }
    assert gateway.runtime.log.flush()
    rows = read_log(gateway.runtime.settings.log_url).sort_by("frame_id").to_pylist()
    assert [row["answered_by"] for row in rows] == gears(answers)
    assert [(row["revision"], row["asked"]) for row in rows if row["answered_by"] == "reuse"] == [
        ("", "")
    ] * 5
    assert [row["detections"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3]
    figures = gateway.http.get("/metrics").text
    assert 'gearshift_answers_total{rung="reuse"} 5.0' in figures
    assert 'gearshift_routing_decisions_total{rung="small"} 3.0' in figures


@pytest.mark.parametrize(
    ("options", "query", "expected"),
    [
        # Doubt of nano's look: log1p(.8 * .2) / 2 = .074; of small's, with .6 * .4 more, .168.
        ({"reuse_frames": 1, "reuse_doubt": 0.1}, "", ["nano", "reuse", "small", "large", "nano"]),
        ({"reuse_frames": 1, "reuse_doubt": 0.07}, "", ["nano", "small", "large", "nano", "small"]),
        (
            {**DOUBTFUL, "reuse_frames": 1, "protect": "person"},
            "",
            ["nano", "reuse", "small", "large", "nano"],
        ),
        (DOUBTFUL, "?track=off", ["nano", "small", "large", "nano", "small"]),
        ({**DOUBTFUL, "always": "nano"}, "", ["nano"] * 5),
        ({}, "", ["nano", "small", "large", "nano", "small"]),
        ({"notes": RELEASED}, "", ["nano", "reuse", "small", "large", "nano"]),
        ({"notes": RELEASED, "reuse_frames": 0}, "", ["nano", "small", "large", "nano", "small"]),
        ({"notes": RELEASED, **DOUBTFUL}, "", ["nano", "reuse", "reuse", "small", "reuse"]),
        ({"notes": RELEASED}, "?track=off", ["nano", "small", "large", "nano", "small"]),
    ],
)
def test_a_rung_looks_where_reuse_may_not(
    start: Start, options: dict[str, Any], query: str, expected: list[str]
) -> None:
    assert gears(streamed(start(**options), query)) == expected


def test_a_first_frame_is_never_reused(start: Start) -> None:
    gateway = start(**DOUBTFUL)
    assert gears(streamed(gateway, frames=2)) == ["nano", "reuse"]
    assert gears(streamed(gateway, frames=2)) == ["nano", "reuse"]
    image = {"content": jpeg(), "headers": {"content-type": "image/jpeg"}}
    assert gears([gateway.http.post("/v1/detect", **image).json() for _ in range(2)]) == [
        *("nano", "nano")
    ]


def test_reuse_and_fallbacks_take_turns(start: Start, rungs: Rungs) -> None:
    async def session(stream: Any) -> list[Message]:
        before = await asked(stream, jpeg(0))
        for rung in ("nano", "small"):
            rungs[rung].failing = True
        return before + await asked(stream, *map(jpeg, range(1, 5)))

    answers = talk(start(**DOUBTFUL).stream, session)
    assert gears(answers) == ["nano", "reuse", "reuse", "large", "reuse"]
    assert [answer["fallback"] for answer in answers] == ["", "", "", "failed", ""]


def test_a_frame_without_an_answer_counts_as_without_a_look(start: Start) -> None:
    gateway = start(**DOUBTFUL)
    frames = (jpeg(0), b"no image", jpeg(1), jpeg(2))
    answers = talk(gateway.stream, lambda stream: asked(stream, *frames))
    assert answers[1]["type"] == "error"
    assert gears([answers[0], *answers[2:]]) == ["nano", "reuse", "small"]
