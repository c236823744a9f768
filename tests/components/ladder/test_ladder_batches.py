from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.ladder import batches
from components.ladder.batches import TrainingFrames, load_or_render, training_batch
from components.scenes.sprites import CATEGORY_IDS

HEIGHT, WIDTH = 96, 128


def painted(boxes: list[list[float]], colours: list[tuple[int, int, int]]) -> TrainingFrames:
    """One grey frame with a coloured rectangle for each box (class, x1, y1, x2, y2)."""
    image = np.full((1, HEIGHT, WIDTH, 3), 60, np.uint8)
    for (_, x1, y1, x2, y2), colour in zip(boxes, colours, strict=True):
        image[0, int(y1) : int(y2), int(x1) : int(x2)] = colour
    rows = np.array([[0.0, *box] for box in boxes], np.float32)
    return TrainingFrames(image, rows, np.array([0, len(boxes)]))


def corners(box: np.ndarray) -> np.ndarray:
    """Relative centre and size to pixels x1, y1, x2, y2."""
    x, y, wide, tall = box * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    return np.array([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2])


def found(image: np.ndarray, channel: int) -> np.ndarray:
    """Bounds of the pixels in which one channel stands out, x1, y1, x2, y2."""
    others = [image[c] for c in range(3) if c != channel]
    mask = image[channel] > np.maximum(*others) + 0.15
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def test_a_batch_depends_on_its_generator_only() -> None:
    frames = painted([[2, 30, 30, 70, 60]], [(0, 0, 255)])
    first, again, other = (
        training_batch(frames, 4, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert (first["img"] != other["img"]).any()


def test_boxes_follow_the_picture_through_zoom_shift_and_mirror() -> None:
    # Blue on the left, red on the right, both well within the frame; BGR.
    frames = painted([[5, 30, 40, 50, 60], [0, 80, 30, 95, 70]], [(255, 0, 0), (0, 0, 255)])
    batch = training_batch(frames, 64, np.random.default_rng(0))
    assert batch["img"].shape == (64, 3, HEIGHT, WIDTH)
    assert batch["img"].dtype == np.float32
    assert batch["img"].min() >= 0 and batch["img"].max() <= 1
    mirrored, zooms = 0, []
    for row, image in enumerate(batch["img"]):
        mine = batch["batch_idx"] == row
        assert batch["cls"][mine, 0].tolist() == [5.0, 0.0]
        blue, red = batch["bboxes"][mine]
        # Channels are RGB now: red is 0, blue is 2. Linear interpolation moves an edge by half a
        # pixel, and a threshold by as much again.
        np.testing.assert_allclose(found(image, 2), corners(blue), atol=1.1)
        np.testing.assert_allclose(found(image, 0), corners(red), atol=1.1)
        mirrored += bool(blue[0] > red[0])
        zooms.append(blue[2] * WIDTH / 20)
    assert 16 < mirrored < 48
    assert np.exp(-0.26) < min(zooms) < 0.9 and 1.1 < max(zooms) < np.exp(0.26)


def test_brightness_varies_within_its_bounds() -> None:
    frames = painted([[0, 40, 30, 80, 60]], [(100, 100, 100)])
    batch = training_batch(frames, 64, np.random.default_rng(0))
    gains = batch["img"][:, 0, HEIGHT // 2, WIDTH // 2] * 255 / 100
    assert 0.74 < gains.min() < 0.85 and 1.15 < gains.max() < 1.26


def test_what_the_zoom_pushes_out_is_cut_off_or_dropped() -> None:
    frames = painted([[3, 0, 0, 12, 12], [1, 50, 40, 80, 60]], [(0, 255, 0), (0, 0, 255)])
    batch = training_batch(frames, 200, np.random.default_rng(0))
    boxes = np.stack([corners(box) for box in batch["bboxes"]])
    assert (boxes[:, :2] >= -1e-3).all()
    assert (boxes[:, 2] <= WIDTH + 1e-3).all() and (boxes[:, 3] <= HEIGHT + 1e-3).all()
    corner = batch["cls"][:, 0] == 3
    assert 40 < corner.sum() < 190  # in the corner it often leaves the frame
    assert (batch["cls"][:, 0] == 1).sum() == 200
    assert (batch["bboxes"][:, 2:] * (WIDTH, HEIGHT) >= 2 - 1e-3).all()


def test_a_frame_without_objects_has_none() -> None:
    blank = TrainingFrames(
        np.full((1, HEIGHT, WIDTH, 3), 9, np.uint8), np.zeros((0, 6), np.float32), np.array([0, 0])
    )
    batch = training_batch(blank, 3, np.random.default_rng(0))
    assert batch["cls"].shape == (0, 1) and batch["bboxes"].shape == (0, 4)
    assert batch["batch_idx"].shape == (0,)


def render(folder: Path, frames: int = 6) -> TrainingFrames:
    return load_or_render(folder, frames=frames, seed=3, height=HEIGHT, width=WIDTH, workers=1)


def test_frames_are_rendered_once_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = render(tmp_path)
    assert first.images.shape == (6, HEIGHT, WIDTH, 3)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(batches, "World", None)  # rendering again would fail
    again = render(tmp_path)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.boxes, again.boxes)


def test_boxes_of_a_rendered_frame_lie_within_it(tmp_path: Path) -> None:
    frames = render(tmp_path)
    assert frames.starts[0] == 0 and frames.starts[-1] == len(frames.boxes)
    for index in range(6):
        rows = frames.of(index)
        assert (frames.boxes[frames.starts[index] : frames.starts[index + 1], 0] == index).all()
        assert (rows[:, 1:3] >= 0).all()
        assert (rows[:, 3] <= WIDTH).all() and (rows[:, 4] <= HEIGHT).all()
        assert (rows[:, 1] < rows[:, 3]).all() and (rows[:, 2] < rows[:, 4]).all()
        assert set(rows[:, 0].astype(int)) <= set(range(len(CATEGORY_IDS)))


def test_the_first_frames_are_the_same_however_many_there_are(tmp_path: Path) -> None:
    few, more = render(tmp_path, 3), render(tmp_path, 5)
    np.testing.assert_array_equal(few.images, more.images[:3])
    np.testing.assert_array_equal(few.boxes, more.boxes[: len(few.boxes)])
