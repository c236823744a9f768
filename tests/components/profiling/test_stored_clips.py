from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

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
from foundation.storage import sha256_file
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


Changed = dict[str, Any]


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    """A copy of the stored folder, to break."""
    for file in stored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def rename_to(folder: Path, **changes: Any) -> None:
    """State other facts in ``clips.json``, and the digests of the files as they are now."""
    file = folder / "clips.json"
    manifest = json.loads(file.read_text()) | changes
    manifest["files"] = {part: sha256_file(folder / f"{part}.npz") for part in manifest["files"]}
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nano_labels", lambda labels: np.full_like(labels, 200)),
        ("nano_labels", lambda labels: labels.astype(np.int8) - 1),
        ("nano_boxes", lambda boxes: np.full(boxes.shape, np.nan)),
        ("nano_boxes", lambda boxes: boxes.T),
        ("nano_boxes", lambda boxes: boxes[:, 1:]),
        ("nano_boxes", lambda boxes: boxes[:3]),
        ("nano_scores", lambda scores: scores[1:]),
        ("nano_scores", lambda scores: scores.astype(np.float64)),
        ("small_counts", lambda counts: counts + np.uint16(1)),
        ("small_counts", lambda counts: counts[:2]),
        ("small_counts", lambda counts: counts.astype(np.int64) * -1),
        ("small_counts", lambda counts: counts.reshape(2, -1)),
        ("large_counts", lambda counts: np.array([{}] * len(counts), dtype=object)),
        ("large_counts", lambda counts: counts.sum()),
        ("clips", lambda clips: np.full_like(clips, 2**31 - 1)),
        ("clips", lambda clips: -clips),
        ("clips", lambda clips: clips[::-1]),
        ("clips", lambda clips: clips[:0]),
        ("conditions", lambda conditions: np.full_like(conditions, 99)),
        ("objects", lambda objects: objects + np.uint16(1)),
        ("object_boxes", lambda boxes: np.full_like(boxes, np.inf)),
        ("object_categories", lambda ids: np.full_like(ids, 555)),
        ("size", lambda size: -size),
        ("size", lambda size: size[:0]),
        ("digests", lambda digests: digests[:1]),
        ("class_names", lambda names: names[:1]),
        ("class_categories", lambda ids: ids * np.nan),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(
    folder: Path, name: str, change: Any
) -> None:
    with np.load(folder / "tune.npz") as stored:
        arrays = {one: stored[one] for one in stored.files}
    arrays[name] = change(arrays[name])
    with (folder / "tune.npz").open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    rename_to(folder)
    with pytest.raises(InvalidInput, match=r"tune|ingest"):
        load_clips(folder, "tune")
    assert load_clips(folder, "test").found[0].rung == LADDER[0]


def test_no_more_is_read_than_an_array_may_hold(folder: Path) -> None:
    file = folder / "tune.npz"
    whole = file.read_bytes()
    for shape in ((4, 10**12), (4, 10**30), (4, -1), (4,)):
        header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        file.write_bytes(whole)
        with zipfile.ZipFile(file) as old:
            content = {name: old.read(name) for name in old.namelist()}
        content["nano_boxes.npy"] = b"\x93NUMPY\x01\x00\x76\x00" + header.encode()
        with zipfile.ZipFile(file, "w") as new:
            for name, data in content.items():
                new.writestr(name, data)
        rename_to(folder)
        with pytest.raises(InvalidInput, match="tune.npz is broken"):
            load_clips(folder, "tune")
    for broken in (b"", b"x", whole[:-40], whole[:300] + b"\xff" * 50 + whole[350:], b"\x93NUMPY"):
        file.write_bytes(broken)
        rename_to(folder)
        with pytest.raises(InvalidInput, match="tune.npz is broken"):
            load_clips(folder, "tune")


@pytest.mark.parametrize(
    "changes",
    [
        {"latency_ms": dict.fromkeys(LADDER, value)}
        for value in (float("nan"), 0, -1, 10**400, "5", True, None)
    ]
    + [{"recipe": []}, {"recipe": {"sha256": "abc"}}, {"latency_ms": [1, 2, 3]}, {"sized": []}],
)
def test_facts_of_odd_values_are_refused(folder: Path, changes: Changed) -> None:
    rename_to(folder, **changes)
    with pytest.raises(InvalidInput, match="make"):
        load_clips(folder, "tune")


@pytest.mark.parametrize("name", ["clips.json", "tune.npz"])
def test_what_is_no_regular_file_is_not_read(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InvalidInput, match="make them with"):
        load_clips(folder, "tune")
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(InvalidInput, match="make them with"):
        load_clips(folder, "tune")


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff", b"", b"[]", b" " * (1 << 20) + b"{}"])
def test_facts_that_are_no_json_are_refused(folder: Path, text: bytes) -> None:
    (folder / "clips.json").write_bytes(text)
    with pytest.raises(InvalidInput, match="holds no stored clips"):
        load_clips(folder, "tune")
