from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_samples import box_record, coco, image_record

from components.data.dataset import PARTS, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.slices import imbalance
from components.data.split import SplitConfig, load_split, split
from components.scenes.writer import ScenesConfig, write_scenes
from foundation.errors import ConfigurationError, InvalidInput


def write(root: Path, clips: list[tuple[str | None, str, int, int]]) -> Path:
    """Clips as (name, condition, frames, objects per frame); no pictures, split needs none."""
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for name, condition, frames, objects in clips:
        for frame in range(frames):
            number = len(images) + 1
            about = {"clip": name, "condition": condition, "frame_index": frame}
            images.append(image_record(number, attributes=about))
            boxes += [box_record(len(boxes) + 1 + k, number, [k, 1, 5, 5]) for k in range(objects)]
    root.mkdir(parents=True)
    (root / "annotations.json").write_text(json.dumps(coco(images, boxes)))
    return root


def run(folder: Path, out: Path, **config: Any) -> Any:
    summary = split(folder, out, SplitConfig(**config))
    return summary, load_split(out)


def test_clips_stay_together_and_kinds_are_spread(tmp_path: Path) -> None:
    """60 clips of 10 frames, 20 of each scene type, half by day and half by night."""
    clips = [(f"c{k}", ("day", "night")[k % 2], 10, (1, 5, 9)[k // 2 % 3]) for k in range(60)]
    folder = write(tmp_path / "data", clips)
    summary, parts = run(folder, tmp_path / "split.json")
    assert summary.images == {"train": 360, "validation": 90, "test": 150}
    assert summary.clips == {"train": 36, "validation": 9, "test": 15}
    # 20 clips per type: 12, 3 and 5; 30 per condition: 18, 4.5 and 7.5.
    for part, count in zip(PARTS, (120, 30, 50), strict=True):
        assert summary.scene_types[part] == {"sparse": count, "moderate": count, "dense": count}
        day, night = summary.conditions[part]["day"], summary.conditions[part]["night"]
        assert abs(day - night) <= 10
    data = load_dataset(folder)
    owner = {int(i): name for name in PARTS for i in parts.part(name)}
    assert len(owner) == 600
    for clip in data.clips:
        assert len({owner[int(i)] for i in data.image_ids[clip.indexes]}) == 1
    assert np.array_equal(parts.train, np.sort(parts.train))


def test_same_seed_same_split(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [(f"c{k}", "day", 4, k % 9) for k in range(30)])
    for name in ("a", "b"):
        run(folder, tmp_path / name, seed=7)
    run(folder, tmp_path / "c", seed=8)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_split(tmp_path / "a").test.tolist() != load_split(tmp_path / "c").test.tolist()


def test_stills_are_spread_too(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [(None, "day", 1, (1, 5, 9)[k % 3]) for k in range(120)])
    summary, _ = run(folder, tmp_path / "split.json")
    assert summary.images == {"train": 72, "validation": 18, "test": 30}
    assert summary.scene_types["validation"] == {"sparse": 6, "moderate": 6, "dense": 6}


@pytest.mark.parametrize("count", [3, 4, 5])
def test_every_part_gets_a_clip(tmp_path: Path, count: int) -> None:
    folder = write(tmp_path / "data", [(f"c{k}", "day", 60, 1) for k in range(count)])
    summary, _ = run(folder, tmp_path / "split.json")
    assert min(summary.clips.values()) >= 1
    assert summary.clips["train"] == max(summary.clips.values())


def test_identical_pictures_stay_together(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [(None, "day", 1, 1)] * 40)
    payload = json.loads((folder / "annotations.json").read_text())
    for image in payload["images"]:
        image["sha256"] = f"{image['id'] // 2:064x}"  # 2 and 3, 4 and 5, ...
    (folder / "annotations.json").write_text(json.dumps(payload))
    _, parts = run(folder, tmp_path / "split.json")
    owner = {int(i): name for name in PARTS for i in parts.part(name)}
    assert all(owner[i] == owner[i + 1] for i in range(2, 40, 2))


@pytest.mark.parametrize(
    "clips", [[("a", "day", 50, 1)], [("a", "day", 9, 1), (None, "day", 1, 1)]]
)
def test_an_empty_part_is_an_error(tmp_path: Path, clips: Any) -> None:
    folder = write(tmp_path / "data", clips)
    with pytest.raises(ConfigurationError, match="empty split: .* give more clips"):
        run(folder, tmp_path / "split.json")
    assert not (tmp_path / "split.json").exists()


@pytest.mark.parametrize("shares", [(0.7, 0.3, 0.0), (0.5, 0.1, 0.1), (1.2, -0.3, 0.1)])
def test_shares_have_to_add_up(tmp_path: Path, shares: Any) -> None:
    folder = write(tmp_path / "data", [(None, "day", 1, 1)] * 9)
    with pytest.raises(ConfigurationError, match="sum up to 1"):
        run(folder, tmp_path / "s", train=shares[0], validation=shares[1], test=shares[2])


@pytest.mark.parametrize(
    "content", ["", "[]", '{"train": [1]}', '{"train": [1], "validation": [1], "test": [2]}']
)
def test_other_files_are_no_split(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InvalidInput, match="run the split stage again"):
        load_split(tmp_path / "s.json")


def test_parts_go_by_name(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"train": [1], "validation": [2], "test": [3]}')
    assert load_split(tmp_path / "s.json").part("test").tolist() == [3]
    with pytest.raises(ConfigurationError, match="no part of a split"):
        load_split(tmp_path / "s.json").part("calibration")


def test_near_duplicates_are_on_one_side(tmp_path: Path) -> None:
    scenes = ScenesConfig(frames=24, width=160, height=120, seed=3)
    write_scenes(scenes, tmp_path / "scenes")
    payload = json.loads((tmp_path / "scenes/annotations.json").read_text())
    for record in payload["images"][:12]:
        frame = cv2.imread(str(tmp_path / "scenes/images" / record["file_name"]))
        assert frame is not None
        name = f"copy-{record['id']}.jpg"
        cv2.imwrite(str(tmp_path / "scenes/images" / name), cv2.convertScaleAbs(frame, beta=4))
        payload["images"].append({**record, "id": 1000 + record["id"], "file_name": name})
    (tmp_path / "scenes/annotations.json").write_text(json.dumps(payload))
    config = IngestConfig(cache=str(tmp_path / "cache"))
    ingest(str(tmp_path / "scenes"), tmp_path / "data", config)
    summary = split(tmp_path / "data", tmp_path / "split.json")
    assert summary.near_duplicates == 12
    parts = load_split(tmp_path / "split.json")
    for name in PARTS:
        ids = set(parts.part(name).tolist())
        assert all((number + 1000 in ids) == (number in ids) for number in range(1, 13))
    assert set(summary.imbalance) == set(summary.random_imbalance)
    mean = sum(summary.imbalance.values())
    assert mean < sum(summary.random_imbalance.values())


def test_times_of_day_and_places_are_spread(tmp_path: Path) -> None:
    """Clips of one kind, a third of them by night, a quarter of them in each of four places."""
    folder = write(tmp_path / "data", [(f"c{k}", "day", 5, 1) for k in range(120)])
    payload = json.loads((folder / "annotations.json").read_text())
    for image in payload["images"]:
        clip = int(image["attributes"]["clip"][1:])
        time, place = "night" if clip % 3 == 0 else "midday", f"{clip % 4}.0, 13.4"
        image["attributes"] |= {"time_of_day": time, "place": place}
    (folder / "annotations.json").write_text(json.dumps(payload))
    summary, _ = run(folder, tmp_path / "split.json")
    for kind in ("time of day", "place"):
        # A clip is an 18th of the validation part.
        assert summary.imbalance[kind] <= 0.0556 < summary.random_imbalance[kind]


def test_imbalance_by_hand() -> None:
    slices = {"light": ("day", "day", "night", "night"), "size": ("small",) * 4}
    assert imbalance(slices, np.array([0, 0, 1, 1])) == {"light": 0.5, "size": 0.0}
    assert imbalance(slices, np.array([0, 1, 0, 1])) == {"light": 0.0, "size": 0.0}
