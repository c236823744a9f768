"""A look at a few images: passes where large finds the objects, refuses where it does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.data.ingest import IngestConfig, ingest
from components.profiling.spot_check import SpotCheckConfig, spot_check
from components.scenes.writer import ScenesConfig, write_scenes
from foundation.errors import ConfigurationError, InvalidInput

FEW = SpotCheckConfig(images=6)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("spot") / "scenes"
    write_scenes(ScenesConfig(frames=8, workers=1, seed=3), out)
    return out


@pytest.fixture
def large(sample_ladder: Path) -> Path:
    return sample_ladder / "large.onnx"


def dataset(source: Path, folder: Path) -> Path:
    ingest(str(source), folder / "data", IngestConfig(cache=str(folder / "cache")))
    return folder / "data"


def test_scenes_that_the_ladder_knows_pass(scenes: Path, large: Path, tmp_path: Path) -> None:
    found = spot_check(dataset(scenes, tmp_path), large, tmp_path / "found.json", FEW)
    assert found.images == 6
    assert found.map > 0.3
    assert (found.known_share, found.unknown) == (1.0, ())
    assert json.loads((tmp_path / "found.json").read_text())["map"] == found.map


def test_boxes_where_nothing_is_are_refused_with_the_share_of_known_classes(
    scenes: Path, large: Path, tmp_path: Path
) -> None:
    content = json.loads((scenes / "annotations.json").read_text())
    boxes = content["annotations"]
    content["categories"].append({"id": 900, "name": "forklift"})
    for number, box in enumerate(boxes):
        box["bbox"] = [1.0, 1.0, 5.0, 5.0]  # a corner of the sky
        box["category_id"] = 900 if number % 4 == 0 else box["category_id"]
    share = 1 - len(boxes[::4]) / len(boxes)
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "annotations.json").write_text(json.dumps(content))
    shutil.copytree(scenes / "images", tmp_path / "wrong" / "images")
    data = dataset(tmp_path / "wrong", tmp_path)
    with pytest.raises(InvalidInput) as caught:
        spot_check(data, large, tmp_path / "found.json", FEW)
    message = str(caught.value)
    assert "large finds next to nothing: mAP50-95 0.000 on 6 images" in message
    assert f"{share:.0%} of the boxes, not forklift" in message
    found = spot_check(data, large, tmp_path / "found.json", SpotCheckConfig(images=6, min_map=0.0))
    assert found.map < 0.02 and found.known_share == pytest.approx(share, abs=1e-3)


def test_a_limit_out_of_range_is_refused() -> None:
    for wrong in ({"images": 0}, {"min_map": 1.5}, {"min_map": -0.1}):
        with pytest.raises(ConfigurationError):
            SpotCheckConfig(**wrong)  # type: ignore[arg-type]
