from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from components.data.dataset import load_dataset
from components.scenes.conditions import CONDITIONS
from components.scenes.sprites import CATEGORY_IDS, CATEGORY_NAMES
from components.scenes.streets import WORLDS
from components.scenes.writer import ScenesConfig, ScenesSummary, write_scenes
from foundation.errors import ConfigurationError, GearshiftError
from foundation.storage import sha256_file
from inference_graph.coco_categories import category_ids

SMALL = ScenesConfig(
    frames=24, clips=3, clip_frames=6, condition="mixed", width=192, height=144, seed=5, workers=1
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScenesSummary]:
    out = tmp_path_factory.mktemp("scenes") / "set"
    return out, write_scenes(SMALL, out)


def bytes_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def test_the_same_seed_gives_the_same_bytes(
    scenes: tuple[Path, ScenesSummary], tmp_path: Path
) -> None:
    again = ScenesConfig(**{**SMALL.__dict__, "workers": 2})
    write_scenes(again, tmp_path / "again")
    first, second = bytes_of(scenes[0]), bytes_of(tmp_path / "again")
    assert first == second
    assert Counter(Path(name).suffix for name in first) == {".jpg": 42, ".mp4": 3, ".json": 4}


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_seed_gives_the_same_bytes_on_another_processor(
    world: str, tmp_path: Path
) -> None:
    config = replace(SMALL, world=world)
    write_scenes(config, tmp_path / "here")
    code = (
        "import pathlib; from components.scenes.writer import ScenesConfig, write_scenes;"
        f"write_scenes({config!r}, pathlib.Path({str(tmp_path / 'there')!r}))"
    )
    older = {**os.environ, "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,AVX"}
    subprocess.run([sys.executable, "-c", code], env=older, check=True, timeout=120)
    assert bytes_of(tmp_path / "here") == bytes_of(tmp_path / "there")


def test_another_seed_gives_other_scenes(
    scenes: tuple[Path, ScenesSummary], tmp_path: Path
) -> None:
    write_scenes(ScenesConfig(**{**SMALL.__dict__, "seed": 6, "clips": 0}), tmp_path / "other")
    ours, theirs = load_dataset(scenes[0]), load_dataset(tmp_path / "other")
    digests = {image.sha256 for image in ours.images}
    assert not digests & {image.sha256 for image in theirs.images}


def test_it_is_a_canonical_data_set(scenes: tuple[Path, ScenesSummary]) -> None:
    out, summary = scenes
    data = load_dataset(out)
    assert len(data) == summary.images == 24 + 3 * 6
    assert summary.clips == 3
    assert summary.annotations == len(data.boxes)
    for index, image in enumerate(data.images):
        assert data.read(index).shape == (image.height, image.width, 3) == (144, 192, 3)
        assert sha256_file(data.path_of(index)) == image.sha256
        assert image.condition in CONDITIONS
    boxes = data.boxes_xyxy
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= 192).all() and (boxes[:, 3] <= 144).all()
    assert (data.boxes[:, 2:] >= 192 / 64).all()
    assert (data.areas <= data.boxes[:, 2] * data.boxes[:, 3]).all()
    assert (data.areas > 0.1 * data.boxes[:, 2] * data.boxes[:, 3]).all()
    assert not data.is_crowd.any()


def test_scene_types_are_counted_from_the_boxes(scenes: tuple[Path, ScenesSummary]) -> None:
    out, summary = scenes
    data = load_dataset(out)
    counted: Counter[str] = Counter()
    for image, objects in zip(data.images, data.object_counts.tolist(), strict=True):
        expected = "sparse" if objects <= 2 else "moderate" if objects <= 7 else "dense"
        assert image.scene_type == expected
        counted[expected] += 1
    assert summary.by_scene_type == counted
    assert min(counted.values()) > 0


def test_every_category_occurs_under_cocos_id(scenes: tuple[Path, ScenesSummary]) -> None:
    data = load_dataset(scenes[0])
    assert {category.name: category.id for category in data.categories} == {
        "person": 1,
        "bicycle": 2,
        "car": 3,
        "motorcycle": 4,
        "bus": 6,
        "truck": 8,
        "traffic light": 10,
        "stop sign": 13,
        "dog": 18,
    }
    assert category_ids(CATEGORY_NAMES) == CATEGORY_IDS
    assert set(data.category_ids.tolist()) == set(CATEGORY_IDS)


def test_a_clips_video_opens_and_shows_its_frames(scenes: tuple[Path, ScenesSummary]) -> None:
    data = load_dataset(scenes[0])
    named = [clip for clip in data.clips if clip.name is not None]
    assert [clip.name for clip in named] == ["clip-0000", "clip-0001", "clip-0002"]
    for clip in named:
        video = cv2.VideoCapture(str(scenes[0] / "clips" / f"{clip.name}.mp4"))
        assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
        frames = []
        while (read := video.read())[0]:
            frames.append(read[1])
        assert len(frames) == 6
        for frame, index in zip(frames, clip.indexes, strict=True):
            assert frame.shape == (144, 192, 3)
            # Two lossy codecs of one noisy picture.
            assert np.abs(frame.astype(float) - data.read(int(index))).mean() < 12


def test_a_clips_own_annotations_are_those_of_the_set(scenes: tuple[Path, ScenesSummary]) -> None:
    out = scenes[0]
    whole = json.loads((out / "annotations.json").read_text())
    for name in ("clip-0000", "clip-0001", "clip-0002"):
        own = json.loads((out / "clips" / f"{name}.json").read_text())
        ids = {image["id"] for image in own["images"]}
        assert own["images"] == [i for i in whole["images"] if i["attributes"]["clip"] == name]
        assert [i["attributes"]["frame_index"] for i in own["images"]] == list(range(6))
        assert own["categories"] == whole["categories"]
        without_id = [{k: v for k, v in a.items() if k != "id"} for a in own["annotations"]]
        assert without_id == [
            {k: v for k, v in a.items() if k != "id"}
            for a in whole["annotations"]
            if a["image_id"] in ids
        ]


def test_things_move_in_a_clip(scenes: tuple[Path, ScenesSummary]) -> None:
    data = load_dataset(scenes[0])
    clip = next(clip for clip in data.clips if clip.name)
    frames = [data.read(int(index)).astype(float) for index in clip.indexes]
    steps = [np.abs(a - b).mean() for a, b in zip(frames[:-1], frames[1:], strict=True)]
    assert min(steps) > 1.0
    assert np.abs(frames[0] - frames[-1]).mean() > max(steps) * 0.8


def test_one_condition_is_kept_and_mixed_has_several(
    scenes: tuple[Path, ScenesSummary], tmp_path: Path
) -> None:
    config = ScenesConfig(frames=2, clips=1, clip_frames=2, condition="fog", width=64, height=64)
    write_scenes(config, tmp_path / "fog")
    assert {image.condition for image in load_dataset(tmp_path / "fog").images} == {"fog"}
    data = load_dataset(scenes[0])
    mixed = Counter(image.condition for image in data.images)
    assert mixed.most_common(1)[0][0] == "day" and len(mixed) > 2
    for clip in data.clips:
        assert len({data.images[int(index)].condition for index in clip.indexes}) == 1


def test_progress_counts_frames(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = ScenesConfig(frames=2, clips=2, clip_frames=3, width=64, height=64, workers=1)
    write_scenes(config, tmp_path / "set", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 8), (2, 8), (5, 8), (8, 8)]


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    config = ScenesConfig(frames=4, width=64, height=64, workers=1)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(config, tmp_path / "set", stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"frames": 0}, "nothing to render: give --frames or --clips"),
        ({"frames": -1, "clips": 2}, "frames is -1; give at least 0"),
        ({"condition": "snow"}, "condition 'snow' is unknown; choose one of day, night, fog"),
        ({"width": 63}, "width is 63; give 64 to 4096"),
        ({"height": 5000}, "height is 5000; give 64 to 4096"),
        ({"height": 65}, "height is 65; choose an even number"),
        ({"clip_frames": 0}, "clip_frames is 0; give at least 1"),
        ({"fps": 0.0}, "fps is 0.0"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_what_cannot_be_rendered_is_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        ScenesConfig(**{"frames": 1, **bad})
    assert isinstance(caught.value, GearshiftError) and "\n" not in str(caught.value)
