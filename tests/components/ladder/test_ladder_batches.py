from __future__ import annotations

import numpy as np
import pytest
import torch

from components.ladder.batches import Windows, cut_out, draw_windows, sample, targets
from components.ladder.pool import FRAME_SIZE, MOST_OBJECTS, FramePool

HEIGHT, WIDTH = FRAME_SIZE
SERVED = (192, 256)


def painted(boxes: list[list[float]], colours: list[tuple[int, int, int]]) -> FramePool:
    """One grey frame with a coloured rectangle for each box (class, x1, y1, x2, y2)."""
    image = np.full((1, HEIGHT, WIDTH, 3), 60, np.uint8)
    rows = np.full((1, MOST_OBJECTS, 5), -1, np.float32)
    for place, ((_, x1, y1, x2, y2), colour) in enumerate(zip(boxes, colours, strict=True)):
        image[0, int(y1) : int(y2), int(x1) : int(x2)] = colour
        rows[0, place] = boxes[place]
    return FramePool((image,), rows)


def windows(count: int, size: tuple[int, int] = SERVED, seed: int = 0) -> Windows:
    return draw_windows(np.random.default_rng(seed), count, 1, size=size, served=SERVED)


def corners(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Relative centres and sizes to pixels x1, y1, x2, y2."""
    centre, extent = boxes[:, :2] * size[::-1], boxes[:, 2:] * size[::-1]
    return np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)


def found(image: np.ndarray, channel: int) -> np.ndarray:
    """Bounds of the pixels in which one channel stands out, x1, y1, x2, y2."""
    others = [image[c] for c in range(3) if c != channel]
    mask = image[channel] > np.maximum(*others) + 0.15
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def test_windows_depend_on_their_generator_only() -> None:
    first, again, other = windows(4, seed=1), windows(4, seed=1), windows(4, seed=2)
    np.testing.assert_array_equal(first.matrices, again.matrices)
    assert (first.matrices != other.matrices).any()


@pytest.mark.parametrize("size", [SERVED, (160, 160)])
def test_boxes_follow_the_pixels(size: tuple[int, int]) -> None:
    # Blue on the left, red on the right, near the middle of the frame; BGR.
    pool = painted([[5, 270, 200, 310, 250], [0, 340, 210, 380, 270]], [(255, 0, 0), (0, 0, 255)])
    drawn = windows(48, size)
    images = cut_out(pool, drawn).numpy()
    assert images.shape == (48, 3, *size) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    labels = {
        name: value.numpy() for name, value in targets(torch.from_numpy(pool.boxes), drawn).items()
    }
    assert (np.diff(labels["batch_idx"]) >= 0).all()
    compared, mirrored, zooms = 0, 0, []
    for row, image in enumerate(images):
        mine = labels["batch_idx"] == row
        boxes = corners(labels["bboxes"][mine], size)
        inside = (boxes[:, :2] > 1).all() and (boxes[:, 2:] < np.array(size[::-1]) - 1).all()
        if len(boxes) < 2 or not inside:
            continue
        assert labels["cls"][mine, 0].tolist() == [5.0, 0.0]
        # Channels are RGB now: red is 0, blue is 2. Linear interpolation moves an edge by half a
        # pixel, and a threshold by as much again.
        np.testing.assert_allclose(found(image, 2), boxes[0], atol=1.1)
        np.testing.assert_allclose(found(image, 0), boxes[1], atol=1.1)
        compared += 1
        mirrored += bool(boxes[0, 0] > boxes[1, 0])
        zooms.append((boxes[0, 2] - boxes[0, 0]) / 40 / 0.4)
    assert compared > 12 and 0.2 < mirrored / compared < 0.8
    assert np.exp(-0.36) < min(zooms) < 0.9 and 1.1 < max(zooms) < np.exp(0.36)


def test_crops_reach_every_part_of_the_frame() -> None:
    drawn = windows(400, (64, 64))
    centres = (32 - drawn.matrices[:, :, 2]) / np.stack(
        [drawn.matrices[:, 0, 0], drawn.matrices[:, 1, 1]], axis=1
    )
    assert (centres.min(axis=0) < (0.2 * WIDTH, 0.2 * HEIGHT)).all()
    assert (centres.max(axis=0) > (0.8 * WIDTH, 0.8 * HEIGHT)).all()
    assert (centres > -20).all() and (centres < (WIDTH + 20, HEIGHT + 20)).all()


def test_both_ways_of_cutting_out_agree() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (2, HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    frames = coarse.repeat(8, axis=1).repeat(8, axis=2)
    pool = FramePool((frames,), np.full((2, MOST_OBJECTS, 5), -1, np.float32))
    drawn = draw_windows(rng, 12, 2, size=(96, 128), served=SERVED)
    apart = cut_out(pool, drawn) - sample(torch.from_numpy(frames), drawn)
    # OpenCV counts in 32nds of a pixel, so an edge of full contrast may differ by a few levels.
    assert apart.abs().mean() < 0.005 and apart.abs().max() < 0.08


def test_brightness_varies_within_its_bounds() -> None:
    pool = painted([[0, 0, 0, WIDTH, HEIGHT]], [(100, 100, 100)])
    gains = cut_out(pool, windows(64))[:, 0, 96, 128].numpy() * 255 / 100
    assert 0.74 < gains.min() < 0.85 and 1.15 < gains.max() < 1.26


def test_what_a_window_hardly_shows_is_no_target() -> None:
    boxes = torch.full((1, MOST_OBJECTS, 5), -1.0)
    # In a window of 64 x 64 at scale 1 from (100, 100): whole, a fifth of it, four pixels thin.
    boxes[0, 0] = torch.tensor([1.0, 110, 110, 130, 150])
    boxes[0, 1] = torch.tensor([2.0, 60, 110, 110, 130])
    boxes[0, 2] = torch.tensor([3.0, 140, 120, 141, 160])
    boxes[0, 3] = torch.tensor([4.0, 150, 150, 178, 178])
    matrix = np.array([[[1.0, 0.0, -100.0], [0.0, 1.0, -100.0]]])
    window = Windows(np.array([0]), matrix, np.ones(1, np.float32), (64, 64))
    labels = targets(boxes, window)
    assert labels["cls"][:, 0].tolist() == [1.0]
    np.testing.assert_allclose(
        corners(labels["bboxes"].numpy(), (64, 64)), [[10, 10, 30, 50]], atol=1e-4
    )
    boxes[0, 3, 3:] = 170  # 14 of 20 pixels each way: 49 % of it
    labels = targets(boxes, window)
    assert labels["cls"][:, 0].tolist() == [1.0, 4.0]
    np.testing.assert_allclose(corners(labels["bboxes"].numpy(), (64, 64))[1], [50, 50, 64, 64])


def test_a_frame_without_objects_has_no_targets() -> None:
    labels = targets(torch.full((1, MOST_OBJECTS, 5), -1.0), windows(3))
    assert labels["cls"].shape == (0, 1) and labels["bboxes"].shape == (0, 4)
    assert labels["batch_idx"].shape == (0,)
