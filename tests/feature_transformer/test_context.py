from __future__ import annotations

import math

import numpy as np
import pytest

from feature_transformer.context import (
    CONTEXT_NAMES,
    LOOK_NAMES,
    Look,
    context_features,
    load_features,
    look_features,
    preference,
)
from foundation.errors import ConfigurationError, InvalidInput


def look(boxes: list[list[float]], scores: list[float], labels: list[int], rung: int = 1) -> Look:
    return Look(
        rung,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int32),
        width=200,
        height=100,
    )


def named(given: Look | None) -> dict[str, float]:
    features = look_features(given)
    assert features.dtype == np.float32
    return dict(zip(LOOK_NAMES, features.tolist(), strict=True))


def test_no_look_is_all_zeros() -> None:
    assert set(named(None).values()) == {0.0}


def test_a_look_that_found_nothing_is_known() -> None:
    features = named(look([], [], [], rung=2))
    assert {name for name, value in features.items() if value} == {"known", "previous_is_large"}
    assert features["known"] == features["previous_is_large"] == 1


@pytest.mark.parametrize(("rung", "name"), list(enumerate(["nano", "small", "large"])))
def test_the_rung_is_one_hot(rung: int, name: str) -> None:
    features = named(look([], [], [], rung))
    hot = [key for key, value in features.items() if key.startswith("previous") and value == 1]
    assert hot == [f"previous_is_{name}"]


def test_numbers_by_hand() -> None:
    # Frame 200x100 = 20,000 pixels. Seen (score >= 0.25): A 20x10 -> size 0.1, B the same moved
    # by 10 columns -> size 0.1, shared 10x10 of 300: 1/3; C 1x2 -> size 0.01, alone.
    features = named(
        look(
            [[0, 0, 20, 10], [10, 0, 30, 10], [100, 50, 101, 52], [0, 0, 200, 100], [5, 5, 9, 9]],
            [0.9, 0.5, 0.3, 0.1, 0.02],
            [2, 2, 0, 5, 7],
        )
    )
    expected = {
        "known": 1,
        "previous_is_nano": 0,
        "previous_is_small": 1,
        "previous_is_large": 0,
        "count_5": math.log(5) / 3,
        "count_25": math.log(4) / 3,
        "count_50": math.log(3) / 3,
        "score_mean": 1.7 / 3,
        "score_min": 0.3,
        # 0.09 + 0.25 + 0.21 + 0.09 = 0.64
        "doubt": math.log(1.64) / 2,
        "score_sum": math.log(2.8) / 3,
        "size_mean": 0.07,
        # sizes 0.01, 0.1, 0.1: the 10th percentile lies 0.2 of the way to the second
        "size_small": 0.01 + 0.2 * 0.09,
        "tiny": 1 / 3,
        "crowding": (1 / 3 + 1 / 3 + 0) / 3,
        "kinds": 2 / 8,
    }
    assert features == pytest.approx(expected, abs=1e-6)


def test_only_doubtful_detections_leave_the_seen_numbers_at_zero() -> None:
    features = named(look([[0, 0, 20, 10]], [0.2], [0]))
    assert features["count_5"] == pytest.approx(math.log(2) / 3)
    assert features["doubt"] == pytest.approx(math.log(1.16) / 2)
    for name in ("count_25", "score_mean", "size_mean", "size_small", "tiny", "crowding", "kinds"):
        assert features[name] == 0


def test_thresholds_include_their_value() -> None:
    features = named(look([[0, 0, 20, 10]] * 2, [0.5, 0.25], [0, 0]))
    assert features["count_25"] == pytest.approx(math.log(3) / 3)
    assert features["count_50"] == pytest.approx(math.log(2) / 3)


def test_identical_boxes_crowd_fully_and_empty_ones_not_at_all() -> None:
    assert named(look([[0, 0, 20, 10]] * 3, [0.9] * 3, [0, 1, 2]))["crowding"] == 1
    assert named(look([[5, 5, 5, 5]] * 3, [0.9] * 3, [0, 1, 2]))["crowding"] == 0
    assert named(look([[0, 0, 20, 10]], [0.9], [0]))["crowding"] == 0


def test_the_order_of_detections_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 90, (20, 2))
    boxes = np.concatenate((corners, corners + generator.uniform(1, 30, (20, 2))), axis=1)
    scores, labels = generator.uniform(0, 1, 20), generator.integers(0, 9, 20)
    order = generator.permutation(20)
    one = look_features(look(boxes.tolist(), scores.tolist(), labels.tolist()))
    two = look_features(look(boxes[order].tolist(), scores[order].tolist(), labels[order].tolist()))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_a_full_look_stays_small() -> None:
    count = 100
    boxes = np.tile([0.0, 0.0, 200.0, 100.0], (count, 1)).tolist()
    features = look_features(look(boxes, [0.5] * count, [i % 80 for i in range(count)]))
    assert np.isfinite(features).all()
    assert features.max() <= 10
    assert features.min() >= 0


def test_load_in_hundreds_of_milliseconds() -> None:
    np.testing.assert_allclose(load_features((0, 50, 250)), [0, 0.5, 2.5])
    np.testing.assert_allclose(load_features((5000, -1, 1000)), [10, 0, 10])


@pytest.mark.parametrize("load", [(1, 2), (1, 2, 3, 4), (0, math.nan, 0), (0, math.inf, 0)])
def test_bad_load(load: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="load_ms"):
        load_features(load)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(1, 0), (0.1, -1), (10, 1), (1000, 1), (0.0001, -4), (1e-9, -4), (0, -4), (2, 0.30103)],
)
def test_preference(weight: float, expected: float) -> None:
    assert preference(weight) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_bad_preference(weight: float) -> None:
    with pytest.raises(ConfigurationError, match="latency weight"):
        preference(weight)


def test_the_whole_block() -> None:
    given = look([[0, 0, 20, 10]], [0.9], [3])
    block = context_features(given, (0, 100, 0), 0.01)
    assert block.dtype == np.float32
    assert block.shape == (len(CONTEXT_NAMES),)
    np.testing.assert_array_equal(block[:16], look_features(given))
    np.testing.assert_allclose(block[16:], [0, 1, 0, -2])


def test_a_first_frame_still_tells_load_and_preference() -> None:
    block = context_features(None, (0, 100, 0), 1.0)
    assert (block[:16] == 0).all()
    np.testing.assert_allclose(block[16:], [0, 1, 0, 0])


def test_what_is_no_look() -> None:
    empty, none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    labels = np.zeros(0, np.int32)
    with pytest.raises(InvalidInput, match="rung 3"):
        Look(3, empty, none, labels, 10, 10)
    with pytest.raises(InvalidInput, match="0x10"):
        Look(0, empty, none, labels, 0, 10)
    with pytest.raises(InvalidInput, match="boxes"):
        Look(0, np.zeros((1, 4), np.float32), none, labels, 10, 10)


def test_the_small_size_is_numpys_percentile() -> None:
    rng = np.random.default_rng(0)
    place = LOOK_NAMES.index("size_small")
    for count in range(1, 40):
        sides = rng.uniform(1, 200, count).astype(np.float32)
        corners = np.zeros((count, 2), np.float32)
        boxes = np.concatenate((corners, np.stack((sides, sides), axis=1)), axis=1)
        look = Look(0, boxes, np.full(count, 0.9, np.float32), np.zeros(count, int), 640, 480)
        sizes = np.sqrt(sides.astype(np.float64) ** 2 / (640 * 480))
        assert look_features(look)[place] == np.float32(np.percentile(sizes, 10))
