from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_samples import write_ladder

from components.data.dataset import load_dataset
from components.ladder import clips
from components.ladder.clips import ClipsConfig, store_clips
from components.ladder.resize import resize_rung
from components.profiling.detections import load_detections
from components.profiling.profile import ProfileConfig, profile_rung
from components.profiling.stored_clips import STORED_FOLDER, load_clips
from components.scenes.writer import write_scenes
from foundation.errors import ConfigurationError
from foundation.storage import sha256_file
from inference_graph.contract import LADDER
from pipelines.ladder_files import SAMPLE_LADDER


@pytest.mark.parametrize("seeds", [(1, 1, 2), (1, 2, 1), (1, 2, 2)])
def test_no_clip_is_in_two_parts(seeds: Sequence[Any]) -> None:
    names = ("learn_seed", "tune_seed", "test_seed")
    with pytest.raises(ConfigurationError, match="must differ"):
        ClipsConfig(**dict(zip(names, seeds, strict=True)))


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder = write_ladder(tmp_path / "ladder")
    config = ClipsConfig(learn=1, tune=1, test=1, clip_frames=2, threads=1, workers=1)
    rendered: list[int] = []
    whole = write_scenes

    def render(scenes: Any, *rest: Any) -> Any:
        if len(rendered) == 2:
            rendered.append(-1)
            raise KeyboardInterrupt
        rendered.append(scenes.seed)
        return whole(scenes, *rest)

    monkeypatch.setattr(clips, "write_scenes", render)
    with pytest.raises(KeyboardInterrupt):
        store_clips(ladder, tmp_path / "clips", config)
    summary = store_clips(ladder, tmp_path / "clips", config)
    assert rendered == [1, 3001, -1, 4001]
    assert dict(summary.frames) == {"learn": 2, "tune": 2, "test": 2}
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == [
        "clips.json",
        "learn.npz",
        "test.npz",
        "tune.npz",
    ]
    manifest = json.loads((tmp_path / "clips" / "clips.json").read_text())
    assert manifest["recipe"]["test_seed"] == 4001
    assert len(load_clips(tmp_path / "clips", "test", ladder).dataset) == 2


def test_what_is_stored_is_not_detected_again(tmp_path: Path) -> None:
    # One network at three sizes is a ladder, so what "small" sees resized is known.
    ladder = {rung: tmp_path / f"{rung}.onnx" for rung in LADDER}
    for rung, size in zip(LADDER, ((64, 96), (96, 128), (128, 160)), strict=True):
        resize_rung(SAMPLE_LADDER / "nano.onnx", ladder[rung], rung, *size)
    config = ClipsConfig(learn=1, tune=1, test=2, clip_frames=2, threads=1, workers=1)
    store_clips(ladder, tmp_path / STORED_FOLDER, config)
    stored = load_clips(tmp_path / STORED_FOLDER, "test", ladder)
    assert stored.sized is not None
    assert stored.sized.names == ("small@64x96", "small@96x128", "small@128x160")
    assert stored.sized.latency_ms[1] == pytest.approx(stored.latency_ms[1])
    for found, sized in zip(stored.found, stored.sized.found, strict=True):
        np.testing.assert_array_equal(found.boxes, sized.boxes)
        np.testing.assert_array_equal(found.scores, sized.scores)

    write_scenes(config.scenes("test"), tmp_path / "scenes")
    quick = ProfileConfig(threads=1)
    again = profile_rung(tmp_path / "scenes", ladder["large"], "large", tmp_path / "a", quick)
    other = replace(quick, confidence=0.02)
    anew = profile_rung(tmp_path / "scenes", ladder["large"], "large", tmp_path / "b", other)
    assert (again.images, again.stored, anew.stored) == (4, 4, 0)
    taken, seen = load_detections(tmp_path / "a"), load_detections(tmp_path / "b")
    sure = taken.scores >= 0.02
    assert 0 < sure.sum() == len(seen.scores)
    np.testing.assert_allclose(taken.boxes[sure], seen.boxes, atol=1 / 16)
    assert set(again.median_ms.values()) == {0.0} and min(anew.median_ms.values()) > 0

    (tmp_path / STORED_FOLDER / "test.npz").write_bytes(b"")
    anew = profile_rung(tmp_path / "scenes", ladder["large"], "large", tmp_path / "c", quick)
    assert anew.stored == 0


def test_stored_detections_that_are_not_the_rungs_are_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ladder = {rung: tmp_path / f"{rung}.onnx" for rung in LADDER}
    for file in ladder.values():
        resize_rung(SAMPLE_LADDER / "nano.onnx", file, file.stem, 96, 128)
    config = ClipsConfig(learn=1, tune=1, test=2, clip_frames=2, threads=1, workers=1)
    folder, scenes, quick = tmp_path / STORED_FOLDER, tmp_path / "scenes", ProfileConfig(threads=1)
    store_clips(ladder, folder, config)
    write_scenes(config.scenes("test"), scenes)

    def stored(name: str) -> int:
        profile = profile_rung(scenes, ladder["nano"], "nano", tmp_path / name, quick)
        assert load_detections(tmp_path / name).image_ids.tolist() == [1, 2, 3, 4]
        return profile.stored

    assert stored("all") == 4
    data = load_dataset(scenes)
    data.path_of(1).write_bytes(data.path_of(0).read_bytes())  # its digest is that of before
    assert stored("three") == 3
    one, other = (
        load_detections(tmp_path / name).select([image])
        for name, image in (("three", 2), ("three", 1))
    )
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)  # the picture as it is now

    with np.load(folder / "test.npz") as part:
        arrays = {name: part[name] for name in part.files}
    arrays["nano_boxes"] = arrays["nano_boxes"] // 2
    with (folder / "test.npz").open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    manifest = json.loads((folder / "clips.json").read_text())
    manifest["files"]["test"] = sha256_file(folder / "test.npz")
    (folder / "clips.json").write_text(json.dumps(manifest))
    assert stored("other boxes") == 0
    assert "are not used: only" in caplog.text
    arrays["class_names"] = arrays["class_names"][::-1]
    with (folder / "test.npz").open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    manifest["files"]["test"] = sha256_file(folder / "test.npz")
    (folder / "clips.json").write_text(json.dumps(manifest))
    assert stored("other classes") == 0
    assert "is of other classes" in caplog.text
