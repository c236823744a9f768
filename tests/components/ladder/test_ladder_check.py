from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from coco_samples import write_detector

from components.ladder.card import CARD_FILE
from components.ladder.check import check_files, check_ladder, check_order
from foundation.errors import ModelError
from foundation.storage import sha256_file
from inference_graph.contract import LADDER
from inference_graph.detector import Detector, DetectorConfig

SAMPLE_LADDER = Path(__file__).resolve().parents[3] / "ladder"

NAMES = ("person", "car", "dog")
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def sample_ladder() -> Path:
    """The ladder that lies in the repository."""
    missing = [
        name
        for name in (*(f"{rung}.onnx" for rung in LADDER), CARD_FILE, "MODEL_CARD.md")
        if not (SAMPLE_LADDER / name).is_file()
    ]
    if missing:
        pytest.fail(
            f"the sample ladder lacks {', '.join(missing)}: ladder/ belongs into the repository, "
            "made by gearshift ladder train, export and card",
            pytrace=False,
        )
    return SAMPLE_LADDER


def test_the_sample_ladder_is_the_one_on_its_card(sample_ladder: Path) -> None:
    check_files(sample_ladder)


def test_the_sample_ladder_is_refused_for_its_middle_rung(sample_ladder: Path) -> None:
    """At equal input small is the better detector; a ladder that is one replaces this test."""
    with pytest.raises(ModelError, match=r"small at \d+×\d+ keeps 10\d % of large at 0\.[12]\d of"):
        check_order(sample_ladder / CARD_FILE)


def test_the_sample_ladder_is_small_and_opens(sample_ladder: Path) -> None:
    files = [sample_ladder / f"{rung}.onnx" for rung in LADDER]
    assert sum(file.stat().st_size for file in files) < 70e6
    card = json.loads((sample_ladder / CARD_FILE).read_text())
    detector = Detector(DetectorConfig(files[0], "nano", threads=1))
    assert list(detector.class_names) == card["class_names"]
    assert list(detector.category_ids) == card["category_ids"]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Three small detectors and a card that fits them."""
    rungs = {}
    for place, rung in enumerate(LADDER):
        write_detector(tmp_path / f"{rung}.onnx", gain=0.5 + 0.1 * place)
        figures = {"overall": 0.6 + 0.1 * place, "dense": 0.5 + 0.1 * place}
        rungs[rung] = {
            "file": f"{rung}.onnx",
            "sha256": sha256_file(tmp_path / f"{rung}.onnx"),
            "map": figures,
            "checkpoint_map": {"overall": figures["overall"] + 0.0049},
        }
    pairs = [
        {
            "network": rung,
            "height": size,
            "width": size,
            "serves": size == 64 + 32 * place,
            "latency_ms": 10.0**place * size,
            "overall": figure,
            "dense": figure,
        }
        for place, rung in enumerate(LADDER)
        for size, figure in (
            (64, 0.6 + 0.05 * place),
            (96, 0.62 + 0.1 * place),
            (128, 0.63 + 0.15 * place),
        )
    ]
    card = {
        "rungs": rungs,
        "class_names": list(NAMES),
        "comparison": {"frames": 10, "pairs": pairs},
    }
    (tmp_path / CARD_FILE).write_text(json.dumps(card))
    return tmp_path


def test_a_ladder_that_fits_its_card_passes(made: Path, tmp_path: Path) -> None:
    check_ladder(made)
    moved = made.rename(tmp_path.with_name("moved"))
    card = (moved / CARD_FILE).rename(moved.with_name("elsewhere.json"))
    check_ladder(moved, card)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["nano"].update(sha256="0" * 64), r"nano.onnx has SHA-256 \w{12}, .* 000000"),
        (
            lambda c: c["large"].update(
                map={"overall": 0.7, "dense": 0.8}, checkpoint_map={"overall": 0.7}
            ),
            r"mAP \(overall\) does not rise from rung to rung on all frames: nano 0.600",
        ),
        (lambda c: c["small"]["map"].update(dense=0.5), r"mAP \(dense\) does not rise"),
        (lambda c: c["nano"]["map"].update(dense=None), "nano not measured"),
        (lambda c: c["small"]["checkpoint_map"].update(overall=0.7051), "more than 0.005 apart"),
        (lambda c: c["small"]["checkpoint_map"].update(overall=0.6949), "more than 0.005 apart"),
        (lambda c: c["large"].update(checkpoint_map=None), "large was never compared with its"),
        (lambda c: c.pop("small"), r"is no ladder's card \(KeyError\)"),
        (lambda c: c["small"].update(map=3), r"is no ladder's card \(TypeError\)"),
    ],
)
def test_what_does_not_fit_is_refused(made: Path, change: Change, message: str) -> None:
    card = json.loads((made / CARD_FILE).read_text())
    change(card["rungs"])
    (made / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=message) as caught:
        check_ladder(made)
    assert "\n" not in str(caught.value)


def test_a_card_without_a_comparison_is_not_enough(made: Path) -> None:
    card = json.loads((made / CARD_FILE).read_text())
    (made / CARD_FILE).write_text(json.dumps({**card, "comparison": None}))
    check_files(made)
    with pytest.raises(ModelError, match="compares no input sizes; write it again"):
        check_ladder(made)


def test_a_rung_that_another_replaces_is_refused(made: Path) -> None:
    card = json.loads((made / CARD_FILE).read_text())
    pair = next(
        one
        for one in card["comparison"]["pairs"]
        if (one["network"], one["height"]) == ("small", 128)
    )
    pair["overall"] = 0.963
    (made / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"small at 128×128 keeps 104 % of large at 0\.10 of its"):
        check_ladder(made)


def test_a_changed_or_missing_file_is_refused(made: Path) -> None:
    (made / "small.onnx").write_bytes(b"another network")
    with pytest.raises(ModelError, match=r"small.onnx has SHA-256"):
        check_ladder(made)
    (made / "small.onnx").unlink()
    with pytest.raises(ModelError, match=r"small.onnx is missing, and .*card.json lists it"):
        check_ladder(made)


@pytest.mark.parametrize("text", [None, "", "[]", '{"rungs": 3}'])
def test_what_is_no_card_is_refused(made: Path, text: str | None) -> None:
    (made / CARD_FILE).unlink()
    if text is not None:
        (made / CARD_FILE).write_text(text)
    with pytest.raises(ModelError, match="is no ladder's card"):
        check_ladder(made)


def test_files_that_no_rung_can_be_are_refused(made: Path) -> None:
    """They are the files on the card, and the card states what they are not."""
    file = made / "small.onnx"
    model = onnx.load(str(file))
    next(one for one in model.metadata_props if one.key == "task").value = "segment"
    onnx.save(model, str(file))
    card = json.loads((made / CARD_FILE).read_text())
    card["rungs"]["small"]["sha256"] = sha256_file(file)
    (made / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"small.onnx is a network for the task 'segment'"):
        check_ladder(made)
    write_detector(file, names=("person", "car", "bus"))
    card["rungs"]["small"]["sha256"] = sha256_file(file)
    (made / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelError, match="small has other class names"):
        check_ladder(made)


def test_a_card_of_other_classes_is_refused(made: Path) -> None:
    card = json.loads((made / CARD_FILE).read_text())
    (made / CARD_FILE).write_text(json.dumps({**card, "class_names": ["person", "car", "bus"]}))
    with pytest.raises(ModelError, match="or they differ in name"):
        check_ladder(made)
