from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from coco_samples import (
    box_record,
    image_record,
    write_canonical,
    write_detector,
    write_image,
    write_ladder,
)

from components.profiling.profile import (
    ProfileConfig,
    load_detections,
    load_profiles,
    profile_rung,
)
from foundation.errors import ConfigurationError, ImageError, InvalidInput, ModelError
from foundation.storage import sha256_file

QUICK = ProfileConfig(threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A red, a black and a wide blue picture; the tiny detectors score a class by its colour."""
    root = tmp_path / "data"
    write_image(root / "images" / "009.png", 64, 64, colour=(0, 26, 204))
    write_image(root / "images" / "001.png", 64, 64, colour=(0, 0, 0))
    write_image(root / "images" / "005.png", 128, 64, colour=(255, 0, 0))
    images = [
        image_record(9) | {"height": 64},
        image_record(1) | {"height": 64},
        image_record(5) | {"width": 128, "height": 64},
    ]
    return write_canonical(root, images, [box_record(1, 9, [24, 28, 16, 8])])


def test_detections_by_hand(folder: Path, tmp_path: Path) -> None:
    weights = write_detector(tmp_path / "nano.onnx")
    seen: list[tuple[int, int]] = []
    summary = profile_rung(
        folder, weights, "nano", tmp_path / "out", QUICK, lambda d, t: seen.append((d, t))
    )
    assert (summary.rung, summary.images, summary.detections) == ("nano", 3, 2)
    assert summary.input_size == (64, 64)
    assert set(summary.median_ms) == {"preprocess", "inference", "postprocess"}
    assert seen == [(1, 3), (2, 3), (3, 3)]

    found = load_detections(tmp_path / "out")
    assert found.image_ids.tolist() == [9, 1, 5]
    assert found.offsets.tolist() == [0, 1, 1, 2]
    # Red 204 of 255 is class 0 with 0.8; the box (32, 32, 16, 8) is given by its centre.
    assert found.scores[0] == pytest.approx(0.8, abs=1e-5)
    assert found.boxes[0].tolist() == pytest.approx([24, 28, 40, 36])
    # The wide one is halved to 64x32 between two bars of grey 114, 16 rows each: blue is
    # (255 + 114) / 2 / 255, and the box goes back to (box - (0, 16)) * 2.
    assert found.scores[1] == pytest.approx(369 / 510, abs=1e-5)
    assert found.boxes[1].tolist() == pytest.approx([48, 24, 80, 40])
    assert found.labels.tolist() == [0, 2]
    assert found.category_ids.tolist() == [1, 18]  # COCO's ids of person and dog
    assert found.milliseconds.shape == (3, 3)
    assert (found.milliseconds > 0).all()
    assert [len(found.of(index).scores) for index in range(3)] == [1, 0, 1]
    assert found.of(2).boxes.tolist() == found.boxes[1:].tolist()


def test_the_facts_state_how_it_was_measured(folder: Path, tmp_path: Path) -> None:
    weights = write_detector(tmp_path / "nano.onnx")
    profile_rung(folder, weights, "nano", tmp_path / "out", QUICK)
    facts = load_detections(tmp_path / "out").facts
    assert facts["sha256"] == sha256_file(weights)
    assert facts["revision"] == facts["sha256"][:12]
    assert facts["class_names"] == ["person", "car", "dog"]
    assert facts["category_ids"] == [1, 3, 18]
    assert facts["settings"]["threads"] == 1
    assert facts["settings"]["providers"] == ["CPUExecutionProvider"]
    assert {"numpy", "onnxruntime"} <= set(facts["versions"])
    assert facts["machine"]["cores"] >= 1
    assert facts["machine"]["cpu"]
    table = pq.read_table(tmp_path / "out" / "detections.parquet")
    assert table.column_names == [
        "image_id",
        "x1",
        "y1",
        "x2",
        "y2",
        "score",
        "category_id",
        "label",
    ]
    assert table["image_id"].to_pylist() == [9, 5]


def test_select_takes_images_in_any_order(folder: Path, tmp_path: Path) -> None:
    profile_rung(folder, write_detector(tmp_path / "n.onnx"), "nano", tmp_path / "out", QUICK)
    found = load_detections(tmp_path / "out")
    part = found.select([5, 1, 9])
    assert part.offsets.tolist() == [0, 1, 1, 2]
    assert part.labels.tolist() == [2, 0]
    assert np.array_equal(part.milliseconds, found.milliseconds[[2, 1, 0]])
    assert found.select([1]).boxes.shape == (0, 4)
    with pytest.raises(InvalidInput, match="has no image 4"):
        found.select([4])


def test_an_image_without_detections_only(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_image(root / "images" / "001.png", colour=(0, 0, 0))
    folder = write_canonical(root, [image_record(1)], [])
    # Bars of grey fill a quarter of the square: 0.25 * 114 / 255 is 0.11.
    config = ProfileConfig(threads=1, confidence=0.2)
    weights = write_detector(tmp_path / "n.onnx")
    assert profile_rung(folder, weights, "nano", tmp_path / "out", config).detections == 0
    assert load_detections(tmp_path / "out").offsets.tolist() == [0, 0]


def test_siblings_have_the_same_classes(folder: Path, tmp_path: Path) -> None:
    ladder = write_ladder(tmp_path / "ladder")
    for rung, weights in ladder.items():
        profile_rung(folder, weights, rung, tmp_path / rung, QUICK, siblings=ladder)
    paths = {rung: tmp_path / rung for rung in ladder}
    profiles = load_profiles(paths)
    scores = [float(profiles[rung].scores[0]) for rung in ladder]
    assert scores == pytest.approx([0.4, 0.6, 0.8], abs=1e-4)

    four = write_detector(tmp_path / "four.onnx", names=("person", "car", "dog", "bus"))
    with pytest.raises(ModelError, match="small has 4 classes against 3 of its sibling nano"):
        profile_rung(folder, four, "small", tmp_path / "x", QUICK, siblings=ladder)
    other = write_detector(tmp_path / "other.onnx", names=("person", "car", "cat"))
    with pytest.raises(ModelError, match="other class names or category ids"):
        profile_rung(folder, other, "small", tmp_path / "x", QUICK, siblings=ladder)
    assert not (tmp_path / "x").exists()
    profile_rung(folder, four, "small", tmp_path / "x", QUICK)
    with pytest.raises(ModelError, match="small has 4 classes, nano has 3"):
        load_profiles({**paths, "small": tmp_path / "x"})
    with pytest.raises(InvalidInput, match="is the profile of nano, not of small"):
        load_profiles({**paths, "small": tmp_path / "nano"})
    fewer = write_canonical(tmp_path / "fewer", [image_record(2)], [])
    profile_rung(fewer, ladder["large"], "large", tmp_path / "large", QUICK)
    with pytest.raises(InvalidInput, match="made on other images"):
        load_profiles(paths)


def test_useless_weights_leave_nothing(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("no network at all")
    with pytest.raises(ModelError, match=r"text\.onnx"):
        profile_rung(folder, text, "nano", tmp_path / "out", QUICK)
    with pytest.raises(ModelError, match=r"none\.onnx"):
        profile_rung(folder, tmp_path / "none.onnx", "nano", tmp_path / "out", QUICK)
    weights = write_detector(tmp_path / "n.onnx")
    with pytest.raises(ConfigurationError, match="medium"):
        profile_rung(folder, weights, "medium", tmp_path / "out", QUICK)
    (folder / "images" / "005.png").unlink()
    with pytest.raises(ImageError, match=r"005\.png"):
        profile_rung(folder, weights, "nano", tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


def test_other_folders_are_no_profile(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no profile of a rung"):
        load_detections(tmp_path / "nowhere")
    weights = write_detector(tmp_path / "n.onnx")
    profile_rung(folder, weights, "nano", tmp_path / "out", QUICK)
    other = write_canonical(tmp_path / "other", [image_record(2)], [])
    profile_rung(other, weights, "nano", tmp_path / "two", QUICK)
    (tmp_path / "two" / "images.parquet").replace(tmp_path / "out" / "images.parquet")
    with pytest.raises(InvalidInput, match="do not belong together"):
        load_detections(tmp_path / "out")
    (tmp_path / "out" / "images.parquet").write_text("text")
    with pytest.raises(InvalidInput, match="is no profile of a rung"):
        load_detections(tmp_path / "out")
