"""The tracks of a stream in service: dropped frames, other sizes, other classes."""

from __future__ import annotations

import numpy as np
import pytest

from feature_transformer.context import LOOK_NAMES, Features
from inference_graph.contract import Detections
from inference_graph.tracking import ReuseConfig, StreamTracks, TrackerConfig

NAMES = ("person", "car")
SHAPE = (480, 640, 3)


def car(x: float) -> Detections:
    """A car of 80 by 40 pixels."""
    return Detections(
        np.array([[x, 100, x + 80, 140]], np.float32),
        np.array([0.8], np.float32),
        np.array([1], np.int32),
    )


def test_numbers_left_out_are_frames_on_the_way() -> None:
    """10 pixels a frame: after frames 0 and 2 of it, frame 5 is predicted at 150."""
    tracks = StreamTracks(TrackerConfig(box_memory=0.5))
    tracks.fuse(0, "large", car(100), SHAPE, NAMES)
    tracks.fuse(2, "large", car(120), SHAPE, NAMES)
    (box,) = tracks.fuse(5, "large", car(150), SHAPE, NAMES).detections.boxes
    assert box[0] == pytest.approx(150)


@pytest.mark.parametrize(
    ("shape", "names"), [((240, 320, 3), NAMES), (SHAPE, ("person", "car", "dog"))]
)
def test_another_size_or_other_classes_end_the_tracks(
    shape: tuple[int, ...], names: tuple[str, ...]
) -> None:
    tracks = StreamTracks()
    tracks.fuse(0, "large", car(100), SHAPE, NAMES)
    assert tracks.fuse(1, "large", car(100), shape, names).track_ids.tolist() == [1]


def test_a_cut_ends_the_tracks() -> None:
    tracks = StreamTracks()
    tracks.fuse(0, "large", car(100), SHAPE, NAMES)
    tracks.forget()
    assert tracks.fuse(1, "large", car(100), SHAPE, NAMES).track_ids.tolist() == [1]


SURE = np.zeros(len(LOOK_NAMES), np.float32)
SURE[LOOK_NAMES.index("known")] = 1
LONGEST = ReuseConfig(longest=3)


def test_dropped_frames_are_frames_without_a_look() -> None:
    """Two of 10 pixels each are seen; the tracks answer up to three frames after the last."""
    tracks = StreamTracks()
    assert tracks.reuse(0, SHAPE, SURE, LONGEST) is None  # a first frame
    tracks.fuse(0, "large", car(100), SHAPE, NAMES)
    tracks.fuse(2, "large", car(120), SHAPE, NAMES)
    carried = tracks.reuse(4, SHAPE, SURE, LONGEST)
    assert carried is not None
    assert carried.detections.boxes[0, 0] == pytest.approx(140)
    assert carried.ages.tolist() == [2]
    assert tracks.reuse(5, SHAPE, SURE, LONGEST) is not None
    assert tracks.reuse(6, SHAPE, SURE, LONGEST) is None


@pytest.mark.parametrize(
    ("number", "shape", "look", "protected"),
    [
        (1, (240, 320, 3), SURE, ""),
        (0, SHAPE, SURE, ""),
        (5, SHAPE, SURE, ""),
        (1, SHAPE, SURE, "car"),
        (1, SHAPE, np.zeros_like(SURE), ""),
        (1, SHAPE, None, ""),
    ],
    ids=["size", "order", "too many", "protected", "unknown", "no policy"],
)
def test_a_rung_has_to_look(
    number: int, shape: tuple[int, ...], look: Features | None, protected: str
) -> None:
    tracks = StreamTracks(protected=frozenset([protected]) - {""})
    tracks.fuse(0, "large", car(100), SHAPE, NAMES)
    assert tracks.reuse(number, shape, look, LONGEST) is None
    tracks.forget()
    assert tracks.reuse(1, SHAPE, SURE, LONGEST) is None
