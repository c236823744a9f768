"""Which pair of network and input size replaces a rung, and what a comparison measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from coco_samples import box_record, image_record, write_canonical, write_detector, write_image
from ultralytics.nn.tasks import DetectionModel

from components.ladder.compare import (
    CompareConfig,
    LadderComparison,
    SizedNetwork,
    compare_ladder,
    faults_of,
)
from components.ladder.export import ExportConfig, export_rung
from foundation.errors import ConfigurationError, InvalidInput

SERVED = {"nano": (192, 256), "small": (256, 320), "large": (320, 416)}


def pair(
    network: str,
    size: tuple[int, int],
    ms: float,
    overall: float | None,
    dense: float | None = None,
) -> SizedNetwork:
    return SizedNetwork(network, *size, SERVED[network] == size, ms, overall, dense or overall)


def sound() -> list[SizedNetwork]:
    """A ladder in which every rung earns its place."""
    return [
        pair("nano", (192, 256), 6, 0.50),
        pair("nano", (256, 320), 10, 0.54),
        pair("nano", (320, 416), 16, 0.56),
        pair("small", (192, 256), 15, 0.58),
        pair("small", (256, 320), 25, 0.64),
        pair("small", (320, 416), 40, 0.67),
        pair("large", (192, 256), 70, 0.62),
        pair("large", (256, 320), 115, 0.69),
        pair("large", (320, 416), 186, 0.74),
    ]


def changed(network: str, size: tuple[int, int], **values: Any) -> list[SizedNetwork]:
    return [
        replace(one, **values) if (one.network, one.size) == (network, size) else one
        for one in sound()
    ]


def test_a_sound_ladder_has_no_faults() -> None:
    assert faults_of(sound()) == ()


@pytest.mark.parametrize(
    ("network", "size", "values", "faults"),
    [
        (
            "small",
            (320, 416),
            {"overall": 0.7918},
            [
                "mAP (overall) does not rise from rung to rung at 320×416: nano 0.560, "
                "small 0.792, large 0.740",
                "small at 320×416 keeps 107 % of large at 0.22 of its time",
            ],
        ),
        (
            "nano",
            (320, 416),
            {"overall": 0.6401},
            ["nano at 320×416 keeps 100 % of small at 0.64 of its time"],
        ),
        (
            "large",
            (320, 416),
            {"dense": 0.6},
            [
                "mAP (dense) does not rise from rung to rung as served: nano 0.500, small 0.640, "
                "large 0.600",
                "mAP (dense) does not rise from rung to rung at 320×416: nano 0.560, small 0.670, "
                "large 0.600",
            ],
        ),
        # As accurate at a smaller input: the size is too large for what the network gains by it.
        (
            "small",
            (192, 256),
            {"overall": 0.64, "dense": 0.64},
            [
                "mAP (overall) does not rise from rung to rung at 192×256: nano 0.500, "
                "small 0.640, large 0.620",
                "mAP (dense) does not rise from rung to rung at 192×256: nano 0.500, "
                "small 0.640, large 0.620",
                "small at 192×256 keeps 100 % of small at 0.60 of its time",
            ],
        ),
        # As accurate, but hardly faster; or faster only by the clock's noise.
        ("small", (320, 416), {"overall": 0.669, "latency_ms": 24.5}, []),
        ("large", (256, 320), {"latency_ms": 200.0}, []),
    ],
)
def test_faults_by_hand(
    network: str, size: tuple[int, int], values: dict[str, float], faults: list[str]
) -> None:
    assert list(faults_of(changed(network, size, **values))) == faults


def test_a_figure_that_is_missing_is_a_fault_only_where_others_exist() -> None:
    without = [replace(one, dense=None) for one in sound()]
    assert faults_of(without) == ()
    (fault, _) = faults_of(changed("large", (320, 416), dense=None))
    assert fault.endswith("as served: nano 0.500, small 0.640, large not measured")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    numbers = (1, 2, 3, 4)
    images = [image_record(number, height=64) for number in numbers]
    for image in images:
        write_image(root / "images" / image["file_name"], 64, 64, colour=(0, 0, 255))
    write_canonical(root, images, [box_record(n, n, [24, 28, 16, 8]) for n in numbers])
    return root


def test_rungs_of_a_fixed_size_are_compared_as_they_serve(pictures: Path, tmp_path: Path) -> None:
    """Overlaps of 0.625, 0.8125 and 1 count at 3, 7 and 10 of the ten thresholds."""
    files = {}
    for rung, width in (("nano", 10), ("small", 13), ("large", 16)):
        files[rung] = tmp_path / f"{rung}.onnx"
        write_detector(files[rung], (32, 32, width, 8))
    config = CompareConfig(threads=1, frames=3)
    found = compare_ladder(pictures, files, tmp_path / "out", config)
    assert [(one.network, one.serves) for one in found.pairs] == [
        ("nano", True),
        ("small", True),
        ("large", True),
    ]
    assert [one.overall for one in found.pairs] == pytest.approx([0.3, 0.7, 1.0])
    assert all(one.dense is None and one.latency_ms > 0 for one in found.pairs)
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert LadderComparison.from_json(stored) == found and found.frames == 3
    assert list(found.faults) == stored["faults"]
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| large | 64×64 (serves) |" in page


def test_networks_are_tried_at_other_sizes(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False).eval()
    model.names = {0: "person", 1: "car", 2: "dog"}
    torch.save({"model": model, "train_args": {}}, tmp_path / "mine.pt")
    files = {rung: tmp_path / f"{rung}.onnx" for rung in SERVED}
    for side, file in zip((64, 64, 96), files.values(), strict=True):
        export_rung(tmp_path / "mine.pt", file, ExportConfig(side, side))
    seen: list[tuple[int, int]] = []
    found = compare_ladder(
        pictures,
        files,
        tmp_path / "out",
        CompareConfig(threads=1, frames=2),
        lambda done, total: seen.append((done, total)),
    )
    sizes = {rung: {one.height for one in found.pairs if one.network == rung} for rung in files}
    assert {64, 96} <= sizes["nano"] and {64, 96} <= sizes["small"] and {64, 96} <= sizes["large"]
    assert seen == [(1, 2), (2, 2)]
    # Three times the same untrained network: none is better than another.
    assert any("does not rise" in fault for fault in found.faults)


def test_nothing_to_compare_on(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="frames is 0; give at least 1"):
        CompareConfig(frames=0)
    write_canonical(tmp_path / "empty", [], [])
    files = {rung: tmp_path / f"{rung}.onnx" for rung in SERVED}
    with pytest.raises(InvalidInput, match="holds no frame to compare networks on"):
        compare_ladder(tmp_path / "empty", files, tmp_path / "out", CompareConfig())
