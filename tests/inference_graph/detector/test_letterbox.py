from __future__ import annotations

import numpy as np
import pytest

from inference_graph.detector.letterbox import Letterbox

SIZES = [(192, 256), (480, 640), (640, 480), (101, 333), (1, 3000), (3000, 1), (193, 256), (7, 5)]
INPUTS = [(192, 256), (256, 256), (320, 320), (640, 640)]


@pytest.mark.parametrize("frame_size", SIZES)
@pytest.mark.parametrize("input_size", INPUTS)
def test_pixel_for_pixel_what_ultralytics_makes(
    frame_size: tuple[int, int], input_size: tuple[int, int]
) -> None:
    from ultralytics.data.augment import LetterBox

    frame = np.random.default_rng(0).integers(0, 256, (*frame_size, 3), dtype=np.uint8)
    expected = LetterBox(input_size, auto=False)(image=frame)
    np.testing.assert_array_equal(Letterbox.fit(frame_size, input_size).apply(frame), expected)


@pytest.mark.parametrize("frame_size", SIZES)
@pytest.mark.parametrize("input_size", INPUTS)
def test_boxes_return_as_ultralytics_returns_them(
    frame_size: tuple[int, int], input_size: tuple[int, int]
) -> None:
    import torch
    from ultralytics.utils.ops import scale_boxes

    boxes = np.random.default_rng(0).uniform(-20, 700, (50, 4)).astype(np.float32)
    expected = scale_boxes(input_size, torch.tensor(boxes), frame_size).numpy()
    found = Letterbox.fit(frame_size, input_size).boxes_to_frame(boxes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


def test_by_hand() -> None:
    # 400x200 into 100x100: scaled by 1/4 to 50 rows, 25 rows of padding above and below.
    placed = Letterbox.fit((200, 400), (100, 100))
    assert (placed.inner_size, placed.top, placed.left) == ((50, 100), 25, 0)
    boxes = np.array([[10, 35, 20, 45], [-5, 0, 200, 100]], np.float32)
    np.testing.assert_allclose(placed.boxes_to_frame(boxes), [[40, 40, 80, 80], [0, 0, 400, 200]])


def test_an_odd_padding_has_its_extra_row_below() -> None:
    placed = Letterbox.fit((99, 100), (100, 100))
    assert placed.top == 0
    image = placed.apply(np.zeros((99, 100, 3), np.uint8))
    assert (image[:99] == 0).all()
    assert (image[99] == 114).all()


def test_a_frame_that_fits_is_not_touched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    assert Letterbox.fit((192, 256), (192, 256)).apply(frame) is frame


def test_no_boxes() -> None:
    boxes = np.zeros((0, 4), np.float32)
    assert Letterbox.fit((10, 20), (100, 100)).boxes_to_frame(boxes).shape == (0, 4)
