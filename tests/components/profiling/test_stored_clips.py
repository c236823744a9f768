from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chain_samples import LATENCY_MS, Artifacts

from components.data.dataset import load_dataset
from components.evaluation.average_precision import match_detections
from components.profiling.detections import load_profiles
from components.profiling.stored_clips import (
    StoredClips,
    load_clips,
    pack_part,
    write_manifest,
)
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER


@pytest.fixture(scope="module")
def stored(prepared: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain's clips in three parts of four."""
    folder = tmp_path_factory.mktemp("clips")
    data, found = load_dataset(prepared.dataset), load_profiles(prepared.detections)
    for number, part in enumerate(("learn", "tune", "test")):
        clips = data.clips[4 * number : 4 * number + 4]
        ids = data.image_ids[np.concatenate([clip.indexes for clip in clips])].tolist()
        rows = {rung: profile.select(ids) for rung, profile in found.items()}
        pack_part(data.subset(ids), rows, folder / f"{part}.npz")
    latency = {"latency_ms": dict(zip(LADDER, LATENCY_MS, strict=True))}
    write_manifest(folder, {"sha256": dict.fromkeys(LADDER, "0")}, latency)
    return folder


def test_what_is_stored_comes_back_nearly_exact(stored: Path, prepared: Artifacts) -> None:
    clips = load_clips(stored, "tune")
    data = load_dataset(prepared.dataset)
    ids = data.image_ids[np.concatenate([clip.indexes for clip in data.clips[4:8]])].tolist()
    exact = data.subset(ids)
    assert [i.scene_type for i in clips.dataset.images] == [i.scene_type for i in exact.images]
    assert [i.condition for i in clips.dataset.images] == [i.condition for i in exact.images]
    assert [len(clip.indexes) for clip in clips.dataset.clips] == [6] * 4
    np.testing.assert_array_equal(clips.dataset.category_ids, exact.category_ids)
    np.testing.assert_allclose(clips.dataset.boxes, exact.boxes, atol=1e-3)
    assert clips.latency_ms == pytest.approx(LATENCY_MS)
    profiles = load_profiles(prepared.detections)
    whole = [profiles[rung].select(ids) for rung in LADDER]
    for found, rows in zip(clips.found, whole, strict=True):
        np.testing.assert_array_equal(found.offsets, rows.offsets)
        np.testing.assert_array_equal(found.category_ids, rows.category_ids)
        np.testing.assert_allclose(found.boxes, rows.boxes.clip(0), atol=1 / 16)
        np.testing.assert_allclose(found.scores, rows.scores, atol=1e-5)
    for rung in range(len(LADDER)):
        kept, meant = (
            match_detections(d, f, f[0].classes).mean_average_precision(rung)
            for d, f in ((clips.dataset, clips.found), (exact, whole))
        )
        assert kept == pytest.approx(meant, abs=5e-3)


def test_a_file_that_is_not_the_one_stored_is_refused(stored: Path, tmp_path: Path) -> None:
    for name in ("learn.npz", "tune.npz", "test.npz", "clips.json"):
        (tmp_path / name).write_bytes((stored / name).read_bytes())
    (tmp_path / "test.npz").write_bytes((stored / "tune.npz").read_bytes())
    with pytest.raises(InvalidInput, match=r"test\.npz is not the file that clips\.json names"):
        load_clips(tmp_path, "test")
    assert isinstance(load_clips(tmp_path, "tune"), StoredClips)
    (tmp_path / "tune.npz").write_bytes(b"")
    with pytest.raises(InvalidInput, match="make the clips again"):
        load_clips(tmp_path, "tune")
    with pytest.raises(InvalidInput, match="holds no stored clips"):
        load_clips(tmp_path / "none", "tune")


def test_detections_of_other_weights_are_refused(stored: Path, tmp_path: Path) -> None:
    weights = tmp_path / "nano.onnx"
    weights.write_bytes(b"another")
    with pytest.raises(InvalidInput, match=r"detections of other weights than .*nano\.onnx"):
        load_clips(stored, "test", {"nano": weights})
