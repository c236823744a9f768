"""Streams whose answers are fused over the frames, against states worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture
def tracking(make_policy: MakePolicy, rungs: Rungs, tmp_path: Path) -> Iterator[Served]:
    """A gateway that tracks: nano, small and large look in turn, and see 1, 2 and 3 objects."""
    policy = make_policy(climbing_weights(), bias=(1.0, 0.0, 0.0))
    options = {"policy": policy, "track": True, "log_url": str(tmp_path / "log")}
    with served(gateway_settings(**options), rungs) as running:
        yield running


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
