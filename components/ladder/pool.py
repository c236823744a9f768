"""The frames that rungs train on: rendered once at camera size, kept in memory-mapped shards.

A shard appears complete or not at all and depends on the seed and its number alone, so a run that
was cut off goes on with the next shard, and a longer pool begins with the frames of a shorter one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.parallel import Progress, no_progress, process_pool
from components.scenes.conditions import CONDITIONS, Condition
from components.scenes.sprites import CATEGORY_IDS
from components.scenes.streets import WORLDS
from components.scenes.world import portable_pixels
from foundation.storage import atomic_path
from foundation.temporary_folder import clear_killed, temporary_folder

FRAME_SIZE = (480, 640)
"""Rows and columns of a frame, as cameras send them."""

SHARD = 1_000
"""Frames of a full shard: 922 MB."""

MOST_OBJECTS = 64
"""Objects of a frame that are kept; no block of a street shows as many."""

_DAY_SHARE = 0.7
_FRAMES_PER_WORLD = 4
_FRAMES_PER_SECOND = 0.4
"""Frames of one world lie seconds apart: laying out a street costs as much as rendering it."""


@dataclass(frozen=True)
class FramePool:
    """Rendered frames with their boxes.

    Attributes:
        shards: uint8 ``[n, 480, 640, 3]`` BGR each, memory maps.
        boxes: float32 ``[N, MOST_OBJECTS, 5]``: class index, x1, y1, x2, y2 in pixels of the
            frame; the class is -1 behind a frame's last object.
    """

    shards: tuple[np.ndarray, ...]
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def frame(self, index: int) -> np.ndarray:
        """One frame, uint8 ``[480, 640, 3]`` BGR."""
        shard, row = divmod(index, SHARD)
        return np.asarray(self.shards[shard][row])


def _condition(rng: np.random.Generator) -> Condition:
    if rng.random() < _DAY_SHARE:
        return "day"
    return CONDITIONS[int(rng.integers(1, len(CONDITIONS)))]


@portable_pixels()
def _render(job: tuple[str, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A world's frames and boxes."""
    world, seed, index = job
    images = np.empty((_FRAMES_PER_WORLD, *FRAME_SIZE, 3), np.uint8)
    boxes = np.full((_FRAMES_PER_WORLD, MOST_OBJECTS, 5), -1, np.float32)
    height, width = FRAME_SIZE
    condition = _condition(np.random.default_rng((seed, index, 1)))
    street = WORLDS[world](
        (seed, index), condition, width, height, moving=True, fps=_FRAMES_PER_SECOND
    )
    for place, scene in enumerate(street.frames(_FRAMES_PER_WORLD)):
        images[place] = scene.image
        for row, found in zip(boxes[place], scene.objects, strict=False):
            x, y, wide, tall = found.box
            row[:] = CATEGORY_IDS.index(found.category_id), x, y, x + wide, y + tall
    return images, boxes


def _write_shard(
    folder: Path, world: str, seed: int, first: int, count: int, pool: ProcessPoolExecutor
) -> Iterator[int]:
    """Render frames ``first`` to ``first + count`` into a folder; yields frames done."""
    file = folder / "images.npy"
    images = np.lib.format.open_memmap(
        file, mode="w+", dtype=np.uint8, shape=(count, *FRAME_SIZE, 3)
    )
    if hasattr(os, "posix_fallocate"):  # else a full disk ends the process at a page's first use
        with file.open("rb+") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    boxes = np.empty((count, MOST_OBJECTS, 5), np.float32)
    jobs = (
        (world, seed, index)
        for index in range(first // _FRAMES_PER_WORLD, -(-(first + count) // _FRAMES_PER_WORLD))
    )
    done = 0
    for some_images, some_boxes in pool.map(_render, jobs, chunksize=4):
        step = min(_FRAMES_PER_WORLD, count - done)
        images[done : done + step], boxes[done : done + step] = (
            some_images[:step],
            some_boxes[:step],
        )
        done += step
        yield done
    images.flush()
    np.save(folder / "boxes.npy", boxes)


def _render_shard(
    place: Path,
    world: str,
    seed: int,
    first: int,
    count: int,
    workers: int,
    on_frames: Callable[[int], None],
) -> None:
    """Make a shard in a locked folder: a run that goes on removes what a killed one left."""
    place.parent.mkdir(parents=True, exist_ok=True)
    clear_killed(place)
    with temporary_folder(place) as folder, process_pool(workers) as pool:
        made = folder / place.name
        with atomic_path(made) as partial:
            partial.mkdir()
            for done in _write_shard(partial, world, seed, first, count, pool):
                on_frames(first + done)
        os.replace(made, place)


def load_or_render(
    folder: Path,
    *,
    world: str,
    frames: int,
    seed: int,
    workers: int,
    progress: Progress = no_progress,
) -> FramePool:
    """Read the pool from ``folder``, rendering the shards that are missing.

    Args:
        folder: cache folder.
        world: which world; see `components.scenes.streets.WORLDS`.
        frames: number of frames.
        seed: entropy of the scenes.
        workers: rendering processes.
        progress: called with frames done and frames in all.

    Raises:
        StorageError: the disk is full.
    """
    shards, boxes = [], []
    for first in range(0, frames, SHARD):
        count = min(SHARD, frames - first)
        place = folder / f"{world}-seed-{seed}" / f"{first:06d}-{count}"
        if not place.is_dir():
            _render_shard(place, world, seed, first, count, workers, lambda n: progress(n, frames))
        shards.append(np.load(place / "images.npy", mmap_mode="r"))
        boxes.append(np.load(place / "boxes.npy"))
    return FramePool(tuple(shards), np.concatenate(boxes))
