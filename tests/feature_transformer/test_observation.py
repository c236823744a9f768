from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest

from feature_transformer import observation as room
from feature_transformer.observation import (
    CONTEXT_FEATURES,
    CONTEXT_NAMES,
    FRAME_FEATURES,
    FRAME_SLICE,
    LOAD_SLICE,
    LOOK_SLICE,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    SCHEMA,
    SCHEMA_HASH,
    context_features,
    frame_features,
    observation,
)
from foundation.errors import ImageError, InvalidInput

GOLDEN = "b580a5b20810003aeae1568bf75c1281eea6cf7de85a9a42957618566e512b49"


def test_the_schema_hash_is_what_released_policies_carry() -> None:
    # Changing it makes every trained policy unusable: do it on purpose, with a new version.
    assert SCHEMA_HASH == GOLDEN


def test_the_hash_covers_the_schema() -> None:
    text = json.dumps(SCHEMA, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == SCHEMA_HASH
    assert json.loads(text) == SCHEMA
    assert SCHEMA["size"] == OBSERVATION_SIZE
    assert SCHEMA["context"]["names"] == list(CONTEXT_NAMES)


def test_the_blocks_lie_side_by_side() -> None:
    assert FRAME_FEATURES == 1028
    assert CONTEXT_FEATURES == len(CONTEXT_NAMES) == len(set(CONTEXT_NAMES)) == 20
    assert OBSERVATION_SIZE == 1048
    assert (FRAME_SLICE.start, FRAME_SLICE.stop) == (0, LOOK_SLICE.start) == (0, 1028)
    assert LOOK_SLICE.stop == LOAD_SLICE.start == 1044
    assert LOAD_SLICE.stop == PREFERENCE_INDEX == OBSERVATION_SIZE - 1
    names = [None] * FRAME_FEATURES + list(CONTEXT_NAMES)
    assert names[LOOK_SLICE][0] == "known"
    assert names[LOAD_SLICE] == ["load_nano", "load_small", "load_large"]
    assert names[PREFERENCE_INDEX] == "preference"


@pytest.mark.parametrize("size", [(480, 640), (192, 256), (33, 47), (1080, 1920)])
def test_a_constant_frame(size: tuple[int, int]) -> None:
    features = frame_features(np.full((*size, 3), 51, np.uint8))
    assert features.dtype == np.float32
    assert features.shape == (1028,)
    np.testing.assert_allclose(features[:1024], 51 / 255, atol=1e-6)
    assert (features[1024:] == 0).all()


def test_grey_follows_the_standard_weights() -> None:
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B; the frame is BGR.
    frame = np.zeros((64, 64, 3), np.uint8)
    for channel, weight in ((0, 0.114), (1, 0.587), (2, 0.299)):
        frame[:] = 0
        frame[..., channel] = 255
        assert frame_features(frame)[0] == pytest.approx(round(255 * weight) / 255, abs=1e-6)


def test_a_half_white_frame() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[:, 320:] = 255
    features = frame_features(frame)
    thumbnail = features[:1024].reshape(32, 32)
    assert (thumbnail[:, :16] == 0).all()
    assert (thumbnail[:, 16:] == 1).all()
    # Sought on 320x240: one column of 120 edge pixels in a quadrant of 160x120, on one side of
    # the step only, so either the left or the right quadrants hold it.
    edges = features[1024:].reshape(2, 2)
    np.testing.assert_allclose(edges.sum(axis=1), 1 / 160, rtol=1e-6)
    np.testing.assert_array_equal(edges[0], edges[1])
    assert sorted(edges[0] > 0) == [False, True]


def test_the_thumbnail_is_row_major_and_averages_areas() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[0:2, 62:64] = 200  # the last cell of the first row
    frame[62, 0] = 100  # a quarter of the first cell of the last row
    thumbnail = frame_features(frame)[:1024]
    assert thumbnail[31] == pytest.approx(200 / 255)
    assert thumbnail[31 * 32] == pytest.approx(25 / 255)
    assert np.count_nonzero(thumbnail) == 2


@pytest.mark.parametrize("quadrant", range(4))
def test_edges_are_counted_in_their_quadrant(quadrant: int) -> None:
    frame = np.zeros((240, 320, 3), np.uint8)
    top, left = (quadrant // 2) * 120, (quadrant % 2) * 160
    frame[top + 40 : top + 80, left + 40 : left + 80] = 255
    edges = frame_features(frame)[1024:]
    assert np.flatnonzero(edges).tolist() == [quadrant]
    # The outline of a 40x40 square is 156 to 164 pixels long, depending on the side it is on.
    assert 150 <= edges[quadrant] * 120 * 160 <= 170


def test_edges_equal_an_independent_count() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (101, 73, 3), dtype=np.uint8)
    edges = cv2.Canny(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), 100, 200) > 0
    expected = [
        edges[:50, :36].mean(),
        edges[:50, 36:].mean(),
        edges[50:, :36].mean(),
        edges[50:, 36:].mean(),
    ]
    np.testing.assert_allclose(frame_features(frame)[1024:], expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (2, 3), (5000, 3)])
def test_thin_frames(size: tuple[int, int]) -> None:
    features = frame_features(np.full((*size, 3), 200, np.uint8))
    assert np.isfinite(features).all()
    assert (features[1024:] == 0).all()


def test_frames_need_not_be_contiguous() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    view = frame[::2, ::-1]
    np.testing.assert_array_equal(frame_features(view), frame_features(view.copy()))


def test_a_frame_is_left_as_it_was() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    before = frame.copy()
    frame_features(frame)
    np.testing.assert_array_equal(frame, before)


def test_an_observation_is_frame_then_context() -> None:
    frame = np.full((48, 64, 3), 255, np.uint8)
    context = context_features(None, (10, 20, 30), 1.0)
    seen = observation(frame, context)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen[FRAME_SLICE], frame_features(frame))
    np.testing.assert_array_equal(seen[1028:], context)
    np.testing.assert_allclose(seen[LOAD_SLICE], [0.1, 0.2, 0.3])
    assert seen[PREFERENCE_INDEX] == 0


def test_bad_arguments() -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(InvalidInput, match="context block"):
        observation(frame, np.zeros(5, np.float32))
    with pytest.raises(ImageError):
        frame_features(np.zeros((48, 64), np.uint8))


def test_the_ladder_is_in_the_schema() -> None:
    assert SCHEMA["ladder"] == list(room.LADDER) == ["nano", "small", "large"]
