"""Rendered frames: the same for the same seed, kept in shards that a cut-off run goes on from."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from components.ladder import pool
from components.ladder.pool import FramePool, load_or_render
from components.scenes.sprites import CATEGORY_IDS
from foundation.file_lock import try_lock


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SHARD", 8)


def render(folder: Path, frames: int, world: str = "streets") -> FramePool:
    return load_or_render(folder, world=world, frames=frames, seed=3, workers=1)


def test_shards_are_rendered_once_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = render(tmp_path, 10)
    assert len(first) == 10 and [len(shard) for shard in first.shards] == [8, 2]
    monkeypatch.setattr(pool, "WORLDS", {})  # rendering again would fail
    again = render(tmp_path, 10)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    for index in range(10):
        np.testing.assert_array_equal(first.frame(index), again.frame(index))


def test_a_cut_off_run_keeps_its_whole_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_render(tmp_path, world="plain", frames=16, seed=3, workers=1, progress=stop)
    assert [folder.name for folder in (tmp_path / "plain-seed-3").iterdir()] == ["000000-8"]
    seen: list[int] = []
    load_or_render(
        tmp_path,
        world="plain",
        frames=16,
        seed=3,
        workers=1,
        progress=lambda done, total: seen.append(done),
    )
    assert min(seen) > 8 and max(seen) == 16


def test_boxes_lie_within_the_frame(tmp_path: Path) -> None:
    frames = render(tmp_path, 8)
    known = frames.boxes[..., 0] >= 0
    assert known.any()
    # The rows of a frame's objects come first.
    assert (known[:, :-1] >= known[:, 1:]).all()
    rows = frames.boxes[known]
    assert set(rows[:, 0].astype(int)) <= set(range(len(CATEGORY_IDS)))
    assert (rows[:, 1:3] >= 0).all() and (rows[:, 1:3] < rows[:, 3:]).all()
    assert (rows[:, 3] <= 640).all() and (rows[:, 4] <= 480).all()


def test_the_first_frames_are_the_same_however_many_there_are(tmp_path: Path) -> None:
    few, more = render(tmp_path / "few", 3), render(tmp_path / "more", 5)
    np.testing.assert_array_equal(few.boxes, more.boxes[:3])
    for index in range(3):
        np.testing.assert_array_equal(few.frame(index), more.frame(index))


def _die_while_rendering(folder: Path) -> None:
    def die(done: int, total: int) -> None:
        os._exit(9)

    load_or_render(folder, world="plain", frames=8, seed=3, workers=1, progress=die)


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(
        target=_die_while_rendering, args=(tmp_path,)
    )
    child.start()
    child.join()
    assert child.exitcode == 9
    (left,) = (tmp_path / "plain-seed-3").iterdir()
    # The killed run's workers end by themselves; until then they hold the lock on what it left.
    handle = os.open(left, os.O_RDONLY)
    for _ in range(300):
        if try_lock(handle):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the killed run's workers are still there")
    os.close(handle)
    render(tmp_path, 8, "plain")
    assert [file.name for file in (tmp_path / "plain-seed-3").iterdir()] == ["000000-8"]
