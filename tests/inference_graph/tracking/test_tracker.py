"""The tracker against states worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from campaign import runs

from foundation.errors import ConfigurationError, InvalidInput
from inference_graph.contract import Detections
from inference_graph.tracking import TrackedDetections, Tracker, TrackerConfig

SIZE = (640, 480)


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections from (x1, y1, x2, y2, score, label), by falling score."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def box(x: float, y: float = 100.0, side: float = 40.0) -> tuple[float, float, float, float]:
    """A square of which x, y is the corner."""
    return (x, y, x + side, y + side)


def state(result: TrackedDetections) -> dict[int, tuple[list[float], float]]:
    """Box and score by track."""
    found = result.detections
    return {
        track: (found.boxes[row].tolist(), float(found.scores[row]))
        for row, track in enumerate(result.track_ids.tolist())
    }


def test_the_first_look_leaves_as_it_came_and_starts_a_track_for_each_sure_detection() -> None:
    tracker = Tracker(TrackerConfig(least_score=0.1))
    found = seen((*box(10), 0.9, 1), (*box(200), 0.05, 2))
    result = tracker.update(found, *SIZE)
    np.testing.assert_array_equal(result.detections.boxes, found.boxes)
    np.testing.assert_array_equal(result.detections.scores, found.scores)
    assert result.track_ids.tolist() == [0, -1]
    assert len(tracker) == 1


def test_box_and_score_are_the_weighted_mean_of_prediction_and_detection() -> None:
    tracker = Tracker(TrackerConfig(box_memory=0.25, score_memory=0.4))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    # Trust 1 against trust 1: the configured weights hold. A track that was seen once has no
    # velocity, so only the score is averaged.
    ((found, score),) = state(tracker.update(seen((*box(104), 0.4, 0)), *SIZE)).values()
    assert found == pytest.approx([104, 100, 144, 140])
    assert score == pytest.approx(0.4 + 0.4 * (0.8 - 0.4))
    # Predicted at 108 by its velocity of 4, detected at 110. Its trust is 0.9 + 1 by now.
    ((found, _),) = state(tracker.update(seen((*box(110), 0.4, 0)), *SIZE)).values()
    weight = 0.25 * 2 * 1.9 / 2.9
    assert found[0] == pytest.approx(110 - 2 * weight)


def test_a_detector_of_less_trust_moves_the_track_less() -> None:
    tracker = Tracker(TrackerConfig(score_memory=0.4))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE, trust=1.0)
    (_, score), *_ = state(tracker.update(seen((*box(100), 0.4, 0)), *SIZE, trust=0.5)).values()
    # 2 * 1 / (1 + 0.5) times the configured weight.
    assert score == pytest.approx(0.4 + 0.4 * (4 / 3) * (0.8 - 0.4))


def test_frames_without_a_look_move_boxes_at_constant_velocity() -> None:
    tracker = Tracker(TrackerConfig(box_memory=0.0, score_memory=0.0, score_decay=0.5))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    tracker.update(seen((*box(110), 0.8, 0)), *SIZE)
    first, second = tracker.predict(*SIZE), tracker.predict(*SIZE)
    assert state(first)[0][0] == pytest.approx([120, 100, 160, 140])
    found, score = state(second)[0]
    assert found == pytest.approx([130, 100, 170, 140])
    assert score == pytest.approx(0.8)  # there was no look, so nothing counts against it
    assert (first.ages.tolist(), second.ages.tolist()) == ([1], [2])


def test_every_look_that_misses_an_object_lowers_its_score() -> None:
    tracker = Tracker(TrackerConfig(score_decay=0.5, max_age=3))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    scores = [float(tracker.update(seen(), *SIZE).detections.scores[0]) for _ in range(2)]
    assert scores == pytest.approx([0.4, 0.2])


def test_an_object_that_one_look_misses_keeps_its_id() -> None:
    tracker = Tracker()
    for x in (100, 110):
        tracker.update(seen((*box(x), 0.8, 0)), *SIZE)
    missed = tracker.update(seen(), *SIZE)
    assert missed.track_ids.tolist() == [0]
    assert missed.ages.tolist() == [1]
    again = tracker.update(seen((*box(130), 0.8, 0)), *SIZE)
    assert again.track_ids.tolist() == [0]
    assert again.ages.tolist() == [0]


def test_a_track_ends_after_its_greatest_age() -> None:
    tracker = Tracker(TrackerConfig(max_age=2, score_decay=1.0))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    found = [tracker.predict(*SIZE).track_ids.tolist() for _ in range(4)]
    assert found == [[0], [0], [0], []]  # the third is the last answer, then the track is gone
    assert tracker.update(seen((*box(100), 0.8, 0)), *SIZE).track_ids.tolist() == [1]


def test_classes_do_not_mix() -> None:
    tracker = Tracker()
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    result = tracker.update(seen((*box(100), 0.7, 1)), *SIZE)
    assert sorted(result.track_ids.tolist()) == [0, 1]


def test_the_surer_detection_takes_the_track_and_each_track_is_taken_once() -> None:
    tracker = Tracker(TrackerConfig(box_memory=0.0))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    result = tracker.update(seen((*box(104), 0.7, 0), (*box(100), 0.6, 0)), *SIZE)
    assert {0, 1} == set(result.track_ids.tolist())
    assert state(result)[0][0][0] == pytest.approx(104)


def test_a_box_is_cut_at_the_frame_and_leaves_with_it() -> None:
    tracker = Tracker(TrackerConfig(box_memory=0.0))
    for x in (560, 590):
        tracker.update(seen((*box(x, side=60), 0.9, 0)), *SIZE)
    # At 620 a third of the box is inside: less than what counts as visible.
    assert len(tracker.predict(*SIZE).detections) == 0


def test_new_tracks_move_with_the_picture() -> None:
    tracker = Tracker(TrackerConfig(box_memory=0.0))
    for x in (0, -10, -20):
        rows = [(*box(200 + x + 100 * k), 0.9, 0) for k in range(3)]
        if x == -20:
            rows.append((*box(560), 0.8, 1))
        tracker.update(seen(*rows), *SIZE)
    assert state(tracker.predict(*SIZE))[3][0][0] == pytest.approx(550)


def test_reset_forgets_tracks_but_does_not_use_an_id_twice() -> None:
    tracker = Tracker()
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    tracker.reset()
    assert tracker.update(seen((*box(100), 0.8, 0)), *SIZE).track_ids.tolist() == [1]


@pytest.mark.campaign
def test_any_stream_gives_sorted_finite_boxes_inside_the_frame() -> None:
    rng = np.random.default_rng(5)
    for _ in range(runs(20, 500)):
        tracker = Tracker()
        for _ in range(8):
            corner = rng.uniform(-50, 640, (int(rng.integers(0, 40)), 2))
            side = rng.uniform(0, 120, corner.shape) * rng.integers(0, 2, corner.shape)
            scores = np.sort(rng.uniform(0, 1, len(corner)))[::-1]
            found = Detections(
                np.concatenate((corner, corner + side), axis=1).astype(np.float32),
                scores.astype(np.float32),
                rng.integers(0, 3, len(corner)).astype(np.int32),
            )
            look = rng.random() < 0.7
            result = tracker.update(found, *SIZE) if look else tracker.predict(*SIZE)
            boxes, scores = result.detections.boxes, result.detections.scores
            assert np.isfinite(boxes).all()
            assert (boxes >= 0).all()
            assert (boxes <= [640, 480, 640, 480]).all()
            assert (np.diff(scores) <= 0).all()
            assert ((scores >= 0) & (scores <= 1)).all()
            named = result.track_ids[result.track_ids >= 0]
            assert len(named) == len(set(named.tolist()))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="trust is 0"):
        Tracker().update(seen(), *SIZE, trust=0.0)
    with pytest.raises(ConfigurationError, match="box_memory"):
        TrackerConfig(box_memory=0.9)


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_dropped_frames_are_part_of_the_way(dropped: int) -> None:
    """An object of 10 pixels a frame has that velocity, however many frames of it are seen."""
    tracker = Tracker(TrackerConfig(box_memory=0.0, velocity_rate=1.0))
    steps = dropped + 1
    tracker.update(seen((*box(100, side=80), 0.8, 0)), *SIZE)
    tracker.update(seen((*box(100 + 10 * steps, side=80), 0.8, 0)), *SIZE, steps=steps)
    found, _ = state(tracker.predict(*SIZE))[0]
    assert found[0] == pytest.approx(100 + 10 * (steps + 1))


def test_a_track_that_frames_without_a_look_led_astray_gets_the_true_velocity() -> None:
    tracker = Tracker(TrackerConfig(box_memory=0.0))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    tracker.predict(*SIZE)  # it has no velocity yet, and stays where it was
    tracker.update(seen((*box(120), 0.8, 0)), *SIZE)
    found, _ = state(tracker.predict(*SIZE))[0]
    assert found[0] == pytest.approx(130)


def test_more_dropped_frames_than_a_track_lasts_end_it() -> None:
    tracker = Tracker(TrackerConfig(max_age=2))
    tracker.update(seen((*box(100), 0.8, 0)), *SIZE)
    assert tracker.update(seen((*box(100), 0.8, 0)), *SIZE, steps=3).track_ids.tolist() == [0]
    assert tracker.update(seen((*box(100), 0.8, 0)), *SIZE, steps=4).track_ids.tolist() == [1]


def test_steps_below_one_are_refused() -> None:
    with pytest.raises(InvalidInput, match="steps is 0"):
        Tracker().update(seen(), *SIZE, steps=0)
    with pytest.raises(InvalidInput, match="steps is -1"):
        Tracker().predict(*SIZE, steps=-1)
