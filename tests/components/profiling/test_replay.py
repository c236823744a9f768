from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from replay_samples import learnable_replay, replay_of

from components.profiling.replay import (
    REPLAY_FILE,
    Replay,
    load_objective,
    load_replay,
    save_replay,
)
from foundation.errors import InvalidInput, SchemaMismatch


def test_previous_frames_and_bounds_by_hand() -> None:
    replay = replay_of([3, 1, 2])
    assert replay.previous.tolist() == [-1, 0, 1, -1, -1, 4]
    assert replay.clip_bounds.tolist() == [[0, 3], [3, 4], [4, 6]]


def test_parts_keep_their_clips_whole_and_know_no_other_frame() -> None:
    replay = replay_of([2, 3, 1, 2], parts=[0, 2, 0, 1])
    train = replay.part("train")
    assert train.image_ids.tolist() == [1, 2, 6]
    assert train.previous.tolist() == [-1, 0, -1]
    both = replay.part("train", "validation")
    assert both.image_ids.tolist() == [1, 2, 6, 7, 8]
    assert both.clip_bounds.tolist() == [[0, 2], [2, 3], [3, 5]]
    assert both.observe_ms is replay.observe_ms


def test_an_empty_part_reports_it() -> None:
    with pytest.raises(InvalidInput, match="the validation part is empty; give the data more"):
        replay_of([2, 2], parts=[0, 2]).part("validation")


def test_reward_by_hand() -> None:
    # Cost of a rung over large's is here its latency over large's: 0.2, 0.4, 1.
    replay = replay_of([1], (0.1, 0.2, 0.3), (10.0, 20.0, 50.0), objective=(2.0, 0.5, 0.25))
    assert replay.latency_unit_ms == 50.0
    np.testing.assert_allclose(replay.latency_ratio, [[0.2, 0.4, 1.0]])
    np.testing.assert_allclose(replay.worth, [[0.2 - 0.05, 0.4 - 0.1, 0.6 - 0.25]], rtol=1e-6)
    np.testing.assert_allclose(replay.reward(0.5), [[0.15 - 0.1, 0.3 - 0.2, 0.35 - 0.5]], atol=1e-6)
    assert replay.latency_weight == 0.5


def test_the_unit_of_latency_is_the_heaviest_rungs_mean() -> None:
    replay = replay_of([2], latency_ms=[[5, 10, 40], [5, 10, 60]])
    assert replay.latency_unit_ms == 50.0
    np.testing.assert_allclose(replay.latency_ratio[:, 2], [0.8, 1.2])


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    replay = learnable_replay(clips=5, frames=2)
    save_replay(replay, tmp_path)
    back = load_replay(tmp_path)
    for field in fields(Replay):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(replay, field.name))
        assert getattr(back, field.name).dtype == getattr(replay, field.name).dtype
    assert [path.name for path in tmp_path.iterdir()] == [REPLAY_FILE]


def test_a_replay_of_another_observation_is_refused(tmp_path: Path) -> None:
    save_replay(replay_of([1]), tmp_path)
    with np.load(tmp_path / REPLAY_FILE) as stored:
        values = dict(stored)
    np.savez(tmp_path / REPLAY_FILE, **{**values, "schema_hash": np.array("0" * 64)})
    with pytest.raises(SchemaMismatch, match="another observation schema"):
        load_replay(tmp_path)
    del values["looks"]
    np.savez(tmp_path / REPLAY_FILE, **values)
    with pytest.raises(InvalidInput, match="lacks looks"):
        load_replay(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no zip at all"])
def test_what_is_no_replay_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / REPLAY_FILE).write_bytes(content)
    with pytest.raises(InvalidInput, match="is no replay"):
        load_replay(tmp_path)


def test_a_replay_cut_short_is_refused(tmp_path: Path) -> None:
    save_replay(replay_of([3]), tmp_path)
    whole = (tmp_path / REPLAY_FILE).read_bytes()
    (tmp_path / REPLAY_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="is no replay"):
        load_replay(tmp_path)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    replay = replay_of([2])
    with pytest.raises(InvalidInput, match=r"quality has shape \(1, 3\), expected \(2, 3\)"):
        replace(replay, quality=replay.quality[:1])


def test_the_objective_is_read_without_the_frames(tmp_path: Path) -> None:
    save_replay(replay_of([2], objective=(1.0, 0.2, 0.05)), tmp_path)
    assert load_objective(tmp_path).tolist() == [1.0, 0.2, 0.05]
    (tmp_path / "replay.npz").write_bytes(b"PK no")
    with pytest.raises(InvalidInput, match="run the label stage again"):
        load_objective(tmp_path)
