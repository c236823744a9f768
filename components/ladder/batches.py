"""Training frames for the ladder: rendered once, kept at the detector's input size, augmented.

Every frame and every batch is a pure function of the seed and its number, so a run that was cut
off continues with exactly the batches it would have seen.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from components.parallel import Progress, no_progress
from components.scenes.conditions import CONDITIONS, Condition
from components.scenes.sprites import CATEGORY_IDS
from components.scenes.world import World
from foundation.storage import atomic_path

_FRAME_SIZE = (640, 480)
_DAY_SHARE = 0.7
_CLIP_SHARE = 4
"""Every fourth frame comes from a looped street, whose crowds a still does not have."""


@dataclass(frozen=True)
class TrainingFrames:
    """Frames at the detector's input size with their boxes.

    Attributes:
        images: uint8 ``[N, h, w, 3]`` BGR (a memory map).
        boxes: float32 ``[M, 6]``: frame, class index, x1, y1, x2, y2 in pixels of ``images``,
            sorted by frame.
        starts: int64 ``[N + 1]``, the first row of ``boxes`` of each frame.
    """

    images: np.ndarray
    boxes: np.ndarray
    starts: np.ndarray

    def of(self, index: int) -> np.ndarray:
        """The rows ``[n, 5]`` (class, x1, y1, x2, y2) of one frame."""
        return self.boxes[self.starts[index] : self.starts[index + 1], 1:]


def _condition(rng: np.random.Generator) -> Condition:
    if rng.random() < _DAY_SHARE:
        return "day"
    return CONDITIONS[int(rng.integers(1, len(CONDITIONS)))]


def _render(job: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    seed, index, height, width = job
    cv2.setNumThreads(1)
    condition = _condition(np.random.default_rng((seed, index, 1)))
    world = World((seed, index), condition, *_FRAME_SIZE, moving=index % _CLIP_SHARE == 0)
    scene = next(iter(world.frames(1)))
    image = cv2.resize(scene.image, (width, height), interpolation=cv2.INTER_LINEAR)
    scale = np.array([width / _FRAME_SIZE[0], height / _FRAME_SIZE[1]] * 2, np.float32)
    rows = np.zeros((len(scene.objects), 5), np.float32)
    for row, found in zip(rows, scene.objects, strict=True):
        x, y, wide, tall = found.box
        row[0] = CATEGORY_IDS.index(found.category_id)
        row[1:] = np.array([x, y, x + wide, y + tall], np.float32) * scale
    return image, rows


def load_or_render(
    folder: Path, *, frames: int, seed: int, height: int, width: int, workers: int,
    progress: Progress = no_progress,
) -> TrainingFrames:  # fmt: skip
    """Read the rendered frames from ``folder``, or render them there first.

    Args:
        folder: cache folder; one sub-folder per (frames, seed, size).
        frames: number of frames.
        seed: entropy of the scenes.
        height: rows of a frame; the scenes' 4:3 must be kept.
        width: columns of a frame.
        workers: rendering processes.
        progress: called with frames done and frames in all.

    Raises:
        StorageError: the disk is full.
    """
    final = folder / f"frames-{frames}-seed-{seed}-{height}x{width}"
    if not final.is_dir():
        with atomic_path(final) as partial:
            partial.mkdir(parents=True)
            images = np.lib.format.open_memmap(
                partial / "images.npy", mode="w+", dtype=np.uint8, shape=(frames, height, width, 3)
            )
            rows: list[np.ndarray] = []
            jobs = ((seed, index, height, width) for index in range(frames))
            with ProcessPoolExecutor(workers) as pool:
                for index, (image, boxes) in enumerate(pool.map(_render, jobs, chunksize=32)):
                    images[index] = image
                    rows.append(np.insert(boxes, 0, index, axis=1))
                    progress(index + 1, frames)
            images.flush()
            np.save(partial / "boxes.npy", np.concatenate(rows))
    boxes = np.load(final / "boxes.npy")
    starts = np.searchsorted(boxes[:, 0], np.arange(frames + 1))
    return TrainingFrames(np.load(final / "images.npy", mmap_mode="r"), boxes, starts)


def training_batch(
    frames: TrainingFrames, size: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw and augment one batch: zoom, shift, mirror, brightness.

    Returns:
        Ultralytics' batch as arrays: ``img`` float32 ``[B, 3, h, w]`` RGB 0..1, ``batch_idx``
        float32 ``[M]``, ``cls`` float32 ``[M, 1]``, ``bboxes`` float32 ``[M, 4]`` xywh, relative.
    """
    height, width = frames.images.shape[1:3]
    images = np.empty((size, height, width, 3), np.float32)
    owners: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for row, index in enumerate(rng.integers(0, len(frames.images), size)):
        image, boxes = frames.images[index], frames.of(int(index)).copy()
        zoom = np.exp(rng.uniform(-0.25, 0.25))
        shift = rng.uniform(-0.08, 0.08, 2) * (width, height)
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        matrix = np.array([
            [mirror * zoom, 0.0, width / 2 - mirror * zoom * width / 2 + shift[0]],
            [0.0, zoom, height / 2 - zoom * height / 2 + shift[1]],
        ])  # fmt: skip
        # OpenCV counts from the middle of the first pixel, boxes from its edge.
        centred = matrix.copy()
        centred[:, 2] += 0.5 * np.diag(matrix) - 0.5
        warped = cv2.warpAffine(
            image, centred, (width, height), flags=cv2.INTER_LINEAR, borderValue=(114, 114, 114)
        )
        images[row] = warped[:, :, ::-1]
        images[row] *= rng.uniform(0.75, 1.25) / 255.0
        columns = boxes[:, [1, 3]] * matrix[0, 0] + matrix[0, 2]
        rows = boxes[:, [2, 4]] * matrix[1, 1] + matrix[1, 2]
        columns.sort(axis=1)
        full = (columns[:, 1] - columns[:, 0]) * (rows[:, 1] - rows[:, 0])
        columns, rows = columns.clip(0, width), rows.clip(0, height)
        wide, tall = columns[:, 1] - columns[:, 0], rows[:, 1] - rows[:, 0]
        # A sliver of an object that the zoom pushed out of the frame is not worth learning.
        keep = (wide >= 2) & (tall >= 2) & (wide * tall > 0.3 * full)
        centre = np.stack([columns.mean(1) / width, rows.mean(1) / height], axis=1)
        extent = np.stack([wide / width, tall / height], axis=1)
        labels.append(np.concatenate([boxes[:, :1], centre, extent], axis=1)[keep])
        owners.append(np.full(int(keep.sum()), row, np.float32))
    found = np.concatenate(labels).astype(np.float32)
    return {
        "img": np.ascontiguousarray(images.clip(0.0, 1.0).transpose(0, 3, 1, 2)),
        "batch_idx": np.concatenate(owners),
        "cls": found[:, :1],
        "bboxes": found[:, 1:],
    }
