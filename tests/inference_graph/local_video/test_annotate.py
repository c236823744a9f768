from __future__ import annotations

import numpy as np
import pytest

from inference_graph.contract import LADDER, Detections
from inference_graph.local_video.annotate import RUNG_COLOURS, Caption, annotate, canvas_size

NAMES = ("person", "car")


def detections(*boxes: list[float], score: float = 0.9) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), score, np.float32),
        np.zeros(len(boxes), np.int32),
    )


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((192, 256), (768 + 56, 1024)),
        ((480, 640), (960 + 56, 1280)),
        ((1080, 1920), (1080 + 56, 1920)),
        ((481, 961), (480 + 56, 960)),
        ((1, 1), (960 + 56, 960)),
    ],
)
def test_small_frames_are_enlarged_and_sides_are_even(
    size: tuple[int, int], canvas: tuple[int, int]
) -> None:
    assert canvas_size(*size) == canvas
    frame = np.full((*size, 3), 90, np.uint8)
    drawn = annotate(frame, detections(), NAMES, Caption("nano", 5.0, None, 0))
    assert drawn.shape == (*canvas, 3)
    assert (frame == 90).all()
    assert (drawn[56:] == 90).all()


@pytest.mark.parametrize("rung", LADDER)
def test_the_strip_has_the_colour_of_the_rung(rung: str) -> None:
    drawn = annotate(np.zeros((192, 256, 3), np.uint8), detections(), NAMES, Caption(rung, 5, 0, 0))
    assert tuple(drawn[20, 5]) == RUNG_COLOURS[rung]


def test_bars_are_as_long_as_the_probabilities() -> None:
    caption = Caption("small", 5, 0.5, 0, (0.25, 0.75, 0.0))
    strip = annotate(np.zeros((192, 256, 3), np.uint8), detections(), NAMES, caption)[:56]
    full = 1024 // 6
    for row, (share, colour) in enumerate(zip((0.25, 0.75), RUNG_COLOURS.values(), strict=False)):
        bar = (strip[12 + row * 16, -full - 12 :] == colour).all(axis=1).sum()
        assert bar == pytest.approx(full * share, abs=2)


def test_boxes_lie_where_they_were_seen() -> None:
    frame = np.zeros((192, 256, 3), np.uint8)
    drawn = annotate(frame, detections([50, 50, 100, 100]), NAMES, Caption("nano", 5, 0, 0))[56:]
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert columns.min() == pytest.approx(200, abs=3)
    assert columns.max() == pytest.approx(400, abs=3)
    assert rows.max() == pytest.approx(400, abs=3)
    assert 180 - 10 <= rows.min() < 200  # the name stands above


def test_weak_detections_are_not_drawn() -> None:
    frame = np.zeros((192, 256, 3), np.uint8)
    weak = detections([50, 50, 100, 100], score=0.24)
    assert not annotate(frame, weak, NAMES, Caption("nano", 5, 0, 0))[56:].any()


def test_boxes_at_the_edges_do_not_break_it() -> None:
    everywhere = detections([0, 0, 256, 192], [250, 0, 256, 3], [0, 189, 2, 192], [5, 5, 5, 5])
    caption = Caption("nano", 5, -3.5, 10**6)
    drawn = annotate(np.zeros((192, 256, 3), np.uint8), everywhere, NAMES, caption)[56:]
    for side in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]):
        assert side.any(axis=1).mean() > 0.9  # a frame around it all
