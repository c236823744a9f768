from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_samples import box_record, image_record, write_canonical, write_detector, write_image
from ultralytics.nn.tasks import DetectionModel

from components.data.classes import Classes
from components.data.dataset import load_dataset
from components.ladder.accuracy import detect_by_checkpoint, detect_by_file, measure
from components.ladder.card import count_parameters, page, write_card
from components.ladder.compare import CompareConfig
from components.ladder.export import ExportConfig, export_rung
from components.ladder.official import ORIGIN_FILE
from components.parallel import no_progress
from foundation.errors import AnnotationError, ConfigurationError, InvalidInput, ModelError
from foundation.storage import sha256_file
from inference_graph.detector import Detector, DetectorConfig

NAMES = ("person", "car", "dog")
CLASSES = Classes(NAMES, (1, 3, 18))
RED = (0, 0, 255)
RECIPE = {"rung": "nano", "iterations": 12, "frames": 4, "seed": 1000, "learning_rate": 1e-3}
CONFIG = CompareConfig(threads=1)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures with one person each, where the detectors look, and one with nine."""
    root = tmp_path_factory.mktemp("held-out")
    images = [image_record(number, height=64) for number in (1, 2, 3)]
    boxes = [box_record(number, number, [24, 28, 16, 8]) for number in (1, 2, 3)]
    boxes += [box_record(10 + k, 3, [8 * (k % 4), 40 + 8 * (k // 4), 4, 4]) for k in range(8)]
    for image in images:
        write_image(root / "images" / image["file_name"], 64, 64, colour=RED)
    write_canonical(root, images, boxes)
    payload = json.loads((root / "annotations.json").read_text())
    payload["info"] = {"description": "Red squares", "seed": 77, "secret": "not for the card"}
    (root / "annotations.json").write_text(json.dumps(payload))
    return root


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    """Boxes of the same place that cover 0.625, 0.8125 and all of the person's (16 x 8)."""
    folder = tmp_path / "ladder"
    write_detector(folder / "nano.onnx", (32, 32, 10, 8))
    write_detector(folder / "small.onnx", (32, 32, 13, 8))
    write_detector(folder / "large.onnx", (32, 32, 16, 8))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    model.names = dict(enumerate(NAMES))
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.rand(4, 3, 64, 64))
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.2)
        torch.nn.init.constant_(branch[-1].bias, -2.0)
    path = tmp_path_factory.mktemp("checkpoints") / "nano.pt"
    torch.save({"model": model.eval(), "train_args": {}, "gearshift": RECIPE}, path)
    return path


def test_figures_by_hand(ladder: Path, held_out: Path) -> None:
    """An overlap of 0.625 counts at 3 of 10 thresholds, 0.8125 at 7, a whole one at all."""
    card = write_card(ladder, held_out, config=CONFIG)
    for rung, share in (("nano", 0.3), ("small", 0.7), ("large", 1.0)):
        figures = card.rungs[rung].map
        # Three of eleven are found (recall 0.27: 28 points of 101), all of the sparse ones, and
        # one of nine in the dense picture (0.11: 12 points). Nothing is moderate.
        assert figures.overall == pytest.approx(share * 28 / 101)
        assert figures.sparse == pytest.approx(share)
        assert figures.dense == pytest.approx(share * 12 / 101)
        assert figures.moderate is None
    assert card.data["frames"] == 3 and card.data["objects"] == 11
    assert card.data["by_scene_type"]["dense"] == {"frames": 1, "objects": 9}


def test_both_files_hold_the_facts(ladder: Path, held_out: Path) -> None:
    seen: list[tuple[int, int]] = []
    card = write_card(
        ladder, held_out, config=CONFIG, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(done, 12) for done in range(1, 13)]  # three rungs, then their comparison
    stored = json.loads((ladder / "card.json").read_text())
    assert list(stored["rungs"]) == ["nano", "small", "large"]
    for rung, facts in stored["rungs"].items():
        file = ladder / f"{rung}.onnx"
        assert facts["file"] == file.name
        assert facts["sha256"] == sha256_file(file)
        assert facts["bytes"] == file.stat().st_size
        assert facts["checkpoint_map"] is None and facts["recipe"] == {}
    assert stored["class_names"] == list(NAMES) and stored["category_ids"] == [1, 3, 18]
    assert stored["data"]["seed"] == 77 and "secret" not in stored["data"]
    assert stored["settings"]["iou"] == 0.7
    assert [pair["network"] for pair in stored["comparison"]["pairs"]] == list(stored["rungs"])
    assert stored["licence"] == "AGPL-3.0-or-later"
    page = (ladder / "MODEL_CARD.md").read_text()
    for heading in ("Intended use", "Other input sizes", "Data", "Limits", "Licence"):
        assert f"## {heading}\n" in page
    figure = f"{card.rungs['small'].map.overall:.4f}"
    for text in ("AGPL-3.0", "write it here", sha256_file(ladder / "large.onnx"), figure):
        assert text in page
    assert not [path for path in ladder.iterdir() if "partial" in path.name]


def test_the_checkpoint_is_judged_and_its_recipe_reported(
    ladder: Path, held_out: Path, checkpoint: Path
) -> None:
    card = write_card(ladder, held_out, checkpoint.parent, CONFIG)
    nano = card.rungs["nano"]
    assert nano.checkpoint_sha256 == sha256_file(checkpoint)
    assert nano.recipe == RECIPE
    assert nano.checkpoint_map is not None and nano.checkpoint_map.overall is not None
    assert card.rungs["small"].checkpoint_map is None
    page = (ladder / "MODEL_CARD.md").read_text()
    assert "| learning_rate | 0.001 |" in page and "| seed | 1000 |" in page
    assert "| earlier runs: iterations, learning_rate | none |" in page


def test_a_checkpoint_tells_of_every_run_it_went_on_from(
    ladder: Path, held_out: Path, checkpoint: Path, tmp_path: Path
) -> None:
    first = {**RECIPE, "iterations": 36_000, "learning_rate": 0.0015, "start_from": {}}
    second = {**RECIPE, "iterations": 24_000, "start_from": first}
    recipe = {**RECIPE, "iterations": 15_000, "start_from": second}
    state = torch.load(checkpoint, weights_only=False)
    torch.save({**state, "gearshift": recipe}, tmp_path / "nano.pt")
    write_card(ladder, held_out, tmp_path, CONFIG)
    page = (ladder / "MODEL_CARD.md").read_text()
    row = "| earlier runs: iterations, learning_rate | 36,000 at 0.0015, 24,000 at 0.001 |"
    assert row in page
    assert "| iterations of all runs | 75,000 |" in page
    assert "Sample scenes only" not in page  # the other two did not come from this project


def test_the_sample_ladder_is_known_by_its_recipes(ladder: Path, held_out: Path) -> None:
    card = write_card(ladder, held_out, config=CONFIG)
    rungs = {name: replace(rung, recipe=RECIPE) for name, rung in card.rungs.items()}
    text = page(replace(card, rungs=rungs))
    assert "Sample scenes only" in text and "No photograph was used" in text
    assert "write it here" not in text


def test_data_a_rung_was_trained_on_are_refused(
    ladder: Path, held_out: Path, checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=False)
    torch.save({**state, "gearshift": {**RECIPE, "seed": 77}}, tmp_path / "nano.pt")
    with pytest.raises(ConfigurationError, match="have seed 77, which nano was trained on"):
        write_card(ladder, held_out, tmp_path, CONFIG)
    assert not (ladder / "card.json").exists()


@pytest.mark.parametrize("name", ["card.json", "MODEL_CARD.md"])
def test_a_card_of_somebody_else_stays(ladder: Path, held_out: Path, name: str) -> None:
    (ladder / name).write_text("# My detectors")
    with pytest.raises(ConfigurationError, match="is not what gearshift ladder card wrote"):
        write_card(ladder, held_out, config=CONFIG)
    assert (ladder / name).read_text() == "# My detectors"


def test_the_card_of_ultralytics_weights_stays(ladder: Path, held_out: Path) -> None:
    (ladder / ORIGIN_FILE).write_text("{}")
    (ladder / "MODEL_CARD.md").write_text("Ultralytics' COCO weights")
    with pytest.raises(ConfigurationError, match="whose card tells of their origin and stays"):
        write_card(ladder, held_out, config=CONFIG)
    assert (ladder / "MODEL_CARD.md").read_text() == "Ultralytics' COCO weights"
    assert not (ladder / "card.json").exists()


def test_what_is_missing_or_broken_is_named(ladder: Path, held_out: Path, tmp_path: Path) -> None:
    (tmp_path / "nano.pt").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"nano.pt is no checkpoint"):
        write_card(ladder, held_out, tmp_path, CONFIG)
    with pytest.raises(ModelError, match="does not exist"):
        detect_by_checkpoint(tmp_path / "none.pt", _opened(ladder / "nano.onnx"))
    (ladder / "small.onnx").unlink()
    with pytest.raises(ConfigurationError, match=r"no small.onnx; export the rungs there first"):
        write_card(ladder, held_out, config=CONFIG)


def test_a_checkpoint_of_other_classes_is_refused(ladder: Path, checkpoint: Path) -> None:
    other = write_detector(ladder / "other.onnx", names=("person", "car", "cat"))
    with pytest.raises(ModelError, match="knows 3 classes, .* or they differ in name"):
        detect_by_checkpoint(checkpoint, _opened(other))


def test_file_and_checkpoint_see_the_same(checkpoint: Path, held_out: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.onnx"
    export_rung(checkpoint, plain, ExportConfig(64, 64, compress=False))
    detector = _opened(plain)
    by_file, by_checkpoint = detect_by_file(detector), detect_by_checkpoint(checkpoint, detector)
    for seed in range(3):
        # 100 x 70: the letterbox scales and pads.
        frame = np.random.default_rng(seed).integers(0, 256, (70, 100, 3), np.uint8)
        one, other = by_file(frame), by_checkpoint(frame)
        assert len(one) == len(other) > 3
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.02)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_parameters_are_counted_with_and_without_compression(
    checkpoint: Path, tmp_path: Path
) -> None:
    counts = []
    for compress in (False, True):
        file = tmp_path / f"{compress}.onnx"
        export_rung(checkpoint, file, ExportConfig(32, 32, compress=compress))
        counts.append(count_parameters(file))
    model: Any = torch.load(checkpoint, weights_only=False)["model"].fuse(verbose=False)
    assert counts == [sum(parameter.numel() for parameter in model.parameters())] * 2


def test_nothing_to_judge_by_is_an_error(ladder: Path, held_out: Path) -> None:
    data = load_dataset(held_out)
    with pytest.raises(InvalidInput, match="holds no frame to judge"):
        measure(
            data.subset([]), detect_by_file(_opened(ladder / "nano.onnx")), CLASSES, no_progress
        )


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([], "it has no boxes"),
        ([box_record(1, 1, [1, 1, 9, 9], iscrowd=1)], "all of its 1 boxes .* are crowds"),
        ([box_record(1, 1, [1, 1, 9, 9], category_id=18)], r"knows none .* \(dog\)"),
    ],
)
def test_a_data_set_by_which_nothing_can_be_judged_is_refused(
    ladder: Path, tmp_path: Path, boxes: list[Any], words: str
) -> None:
    data = load_dataset(write_canonical(tmp_path / "data", [image_record(1)], boxes))
    classes = Classes(("person", "car"), (1, 3))
    with pytest.raises(AnnotationError, match=words):
        measure(data, detect_by_file(_opened(ladder / "nano.onnx")), classes, no_progress)


def _opened(path: Path) -> Detector:
    return Detector(DetectorConfig(path, "nano", threads=1))


def test_the_card_states_what_was_matched_by_another_name(
    ladder: Path, held_out: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(held_out, data)
    payload = json.loads((data / "annotations.json").read_text())
    payload["categories"][0] |= {"id": 40, "name": "Person"}
    payload["categories"].append({"id": 1, "name": "forklift"})
    for box in payload["annotations"]:
        box["category_id"] = 40 if box["id"] < 10 else 1
    (data / "annotations.json").write_text(json.dumps(payload))
    card = write_card(ladder, data, config=CONFIG)
    assert card.data["classes"] == {"renamed": {"Person": "person"}, "not_counted": ["forklift"]}
    assert card.rungs["large"].map.overall == pytest.approx(1.0)
    assert "Not counted, for no rung knows them: forklift." in page(card)
