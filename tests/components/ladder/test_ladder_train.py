from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from components.ladder import train, train_all
from components.ladder.export import ExportConfig, export_rung
from components.ladder.train import (
    LadderTrainConfig,
    StepReport,
    learning_rate_factor,
    steps_done,
    train_rung,
)
from components.ladder.train_all import train_ladder
from components.ladder.warm_start import load_exported, recipe_beside
from components.scenes.sprites import CATEGORY_NAMES
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import sha256_file
from inference_graph.contract import LADDER

TINY = LadderTrainConfig(
    rung="nano",
    iterations=12,
    frames=4,
    batch=2,
    height=64,
    width=96,
    crop=32,
    crop_share=0.5,
    seed=3,
    checkpoint_every=3,
    threads=1,
    device="cpu",
)


class Interrupted(Exception):
    pass


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    # The checkpoint holds the network itself, as every Ultralytics checkpoint does.
    state = torch.load(path, weights_only=False)
    return state["model"].state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[StepReport]]:
    """The checkpoint, the cache and the reports of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("ladder")
    reports: list[StepReport] = []
    torch.set_num_threads(1)
    path = train_rung(TINY, folder / "out", folder / "cache", on_step=reports.append)
    assert path is not None
    return path, folder / "cache", reports


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(
    trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    path, cache, reports = trained

    def stop(report: StepReport) -> None:
        if report.step == 5:  # two steps after the checkpoint of step 3
            raise Interrupted

    with pytest.raises(Interrupted):
        train_rung(TINY, tmp_path, cache, on_step=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["nano.checkpoint"]

    torch.manual_seed(99)  # what happened in between must not matter
    resumed: list[StepReport] = []
    # Threads and checkpoints may change where a run goes on; what it learns does not.
    again = train_rung(replace(TINY, checkpoint_every=2), tmp_path, cache, on_step=resumed.append)
    assert again is not None
    assert [file.name for file in tmp_path.iterdir()] == ["nano.pt"]
    assert [report.step for report in resumed] == [4, 5, 6]
    assert resumed[-1].loss == reports[-1].loss
    expected, found = weights_of(path), weights_of(again)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_it_begins_on_crops_and_ends_at_the_size_that_serves() -> None:
    assert [TINY.size_at(step) for step in range(6)] == [(32, 32)] * 3 + [(64, 96)] * 3
    usual = LadderTrainConfig(rung="large")
    assert usual.served == (320, 416) and usual.size_at(usual.steps - 1) == (320, 416)
    assert usual.recipe()["height"] == 320


def test_reports_count_steps(trained: tuple[Path, Path, list[StepReport]]) -> None:
    reports = trained[2]
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert {report.steps for report in reports} == {6}
    assert all(math.isfinite(report.loss) and report.images_per_second > 0 for report in reports)


def test_a_checkpoint_of_another_recipe_is_refused(
    trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    def stop(report: StepReport) -> None:
        if report.step == 3:
            raise Interrupted

    config = replace(TINY, checkpoint_every=1)
    with pytest.raises(Interrupted):
        train_rung(config, tmp_path, trained[1], on_step=stop)
    assert steps_done(config, tmp_path) == 2
    with pytest.raises(ConfigurationError, match="belongs to a run with another configuration"):
        train_rung(replace(config, learning_rate=1e-2), tmp_path, trained[1])
    assert (tmp_path / "nano.checkpoint").is_file()


@pytest.mark.parametrize("name", ["nano.pt", "nano.checkpoint"])
@pytest.mark.parametrize("content", [b"", b"mine", b"\x80\x04]."], ids=range(3))
def test_what_is_no_checkpoint_is_refused_and_stays(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no checkpoint of this training"):
        steps_done(TINY, tmp_path)
    assert (tmp_path / name).read_bytes() == content


def test_the_checkpoint_opens_in_ultralytics_and_tells_its_recipe(
    trained: tuple[Path, Path, list[StepReport]],
) -> None:
    from ultralytics import YOLO

    network = YOLO(trained[0], task="detect")
    assert tuple(network.names.values()) == CATEGORY_NAMES
    state: dict[str, Any] = torch.load(trained[0], weights_only=False)
    beside = ("threads", "device", "checkpoint_every")
    recipe = {name: value for name, value in TINY.__dict__.items() if name not in beside}
    assert state["gearshift"] == {**recipe, "start_from": {}}
    assert next(state["model"].parameters()).dtype == torch.float16
    assert not state["model"].training


def test_the_learning_rate_warms_up_and_falls() -> None:
    assert learning_rate_factor(0, 1000) == pytest.approx(0.01)
    assert learning_rate_factor(49, 1000) == pytest.approx(
        0.5 * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * 0.049)))
    )
    assert learning_rate_factor(500, 1000) == pytest.approx(0.02 + 0.49)
    assert learning_rate_factor(999, 1000) == pytest.approx(0.02, abs=1e-4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rung": "medium"}, "rung 'medium' is not on the ladder; choose one of nano, small"),
        ({"height": 100}, "input 100x96 does not suit the network"),
        ({"world": "moon"}, "world 'moon' is unknown; choose one of plain, streets"),
        ({"crop": 40}, "input 40x40 does not suit the network"),
        ({"crop_share": 1.5}, "crop_share is 1.5; give 0 to 1"),
        ({"batch": 0}, "batch is 0; give at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"iterations": 1}, "1 iterations are less than one batch of 2"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(TINY, **bad)


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:99"])
def test_a_device_that_cannot_be_used_is_refused(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigurationError, match=f"device '{device}' cannot be used .*; give auto"):
        train.pick_device(device)


def test_a_run_goes_on_from_the_weights_of_another(
    trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    path, cache, _ = trained
    still = replace(TINY, iterations=2, learning_rate=0.0, start_from=str(path))
    again = train_rung(still, tmp_path, cache)
    assert again is not None
    expected, found = weights_of(path), weights_of(again)
    for name, value in expected.items():  # at a rate of zero only batch statistics move
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, found[name]), name
    recipe = torch.load(again, weights_only=False)["gearshift"]
    assert recipe["start_from"]["iterations"] == 12
    assert recipe["start_from"]["sha256"] == sha256_file(path)


def test_a_run_goes_on_from_an_exported_rung(
    trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    """The network answers as the export does, also where batches normalise it."""
    path, cache, _ = trained
    size = {"height": TINY.height, "width": TINY.width}
    digest = export_rung(path, tmp_path / "nano.onnx", ExportConfig(**size, compress=False)).sha256
    card = {"rungs": {"nano": {"sha256": digest, "recipe": {"iterations": 12}}}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    still = replace(TINY, iterations=2, learning_rate=0.0, start_from=str(tmp_path))
    again = train_rung(still, tmp_path / "out", cache)
    assert again is not None
    state = torch.load(again, weights_only=False)
    recipe = state["gearshift"]
    assert recipe["start_from"] == {"iterations": 12, "sha256": digest}
    expected = torch.load(path, weights_only=False)["model"].float().eval()
    network = state["model"].float().eval()
    image = torch.rand(2, 3, TINY.height, TINY.width, generator=torch.manual_seed(1))
    with torch.no_grad():
        wanted, found = expected(image)[0], network(image)[0]
    # Half-precision weights, and one step's statistics in the moving average.
    assert torch.allclose(found, wanted, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize("content", [b"", b"no model", "small"])
def test_an_export_of_something_else_is_refused(
    content: bytes | str, trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    _, cache, _ = trained
    weights = tmp_path / "weights.onnx"
    if isinstance(content, bytes):
        weights.write_bytes(content)
    else:
        larger = DetectionModel("yolov8s.yaml", nc=len(CATEGORY_NAMES), verbose=False)
        torch.save({"model": larger}, tmp_path / "small.pt")
        export_rung(tmp_path / "small.pt", weights, ExportConfig(TINY.height, TINY.width))
    with pytest.raises(InvalidInput, match="is no export of yolov8n"):
        train_rung(replace(TINY, start_from=str(weights)), tmp_path / "out", cache)


def test_a_rung_is_grown_from_a_smaller_one(
    trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    path, cache, _ = trained
    still = replace(TINY, rung="small", iterations=2, learning_rate=0.0, start_from=str(path))
    grown = train_rung(still, tmp_path, cache)
    assert grown is not None
    state = torch.load(grown, weights_only=False)
    assert state["gearshift"]["start_from"]["rung"] == "nano"
    expected = torch.load(path, weights_only=False)["model"].float().eval()
    image = torch.rand(2, 3, TINY.height, TINY.width, generator=torch.manual_seed(1))
    with torch.no_grad():
        wanted, found = expected(image)[0], state["model"].float().eval()(image)[0]
    # Half-precision weights, and one step's statistics in the moving average.
    assert torch.allclose(found, wanted, atol=0.02 * float(wanted.abs().max()))


KERNEL = "model.0.conv.weight"


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        # 100 x 100 thousand numbers from 0.5 MB.
        (
            {
                f"{KERNEL}.int8": np.zeros((1, 1, 1, 100_000), np.int8),
                f"{KERNEL}.scale": np.ones(100_000, np.float32),
            },
            "another shape",
        ),
        ({KERNEL: np.full((16, 3, 3, 3), np.nan, np.float32)}, "no finite float32"),
        ({KERNEL: np.zeros((16, 3, 3, 3), np.complex64)}, "no finite float32"),
        ({KERNEL: np.zeros(50_000_000, np.int8)}, "longer than the network"),
        ({KERNEL: None}, "weights of other files"),
    ],
    ids=["small factors of a large product", "no numbers", "other numbers", "length", "elsewhere"],
)
def test_an_export_of_a_stranger_costs_no_more_than_the_network(
    tensors: dict[str, np.ndarray | None], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(bytes(1728))
    initializers = []
    for name, value in tensors.items():
        if value is not None:
            initializers.append(onnx.numpy_helper.from_array(value, name))
            continue
        tensor = onnx.TensorProto(name=name, dims=(16, 3, 3, 3), data_type=1, data_location=1)
        tensor.external_data.add(key="location", value="weights")
        initializers.append(tensor)
    node = onnx.helper.make_node("Conv", ["image", KERNEL], ["out"])
    graph = onnx.helper.make_graph([node], "stranger", [], [], initializers)
    path = tmp_path / "nano.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    network = DetectionModel("yolov8n.yaml", nc=len(CATEGORY_NAMES), verbose=False)
    with pytest.raises(InvalidInput, match=reason):
        load_exported(network, path)
    (tmp_path / "card.json").write_text(
        json.dumps({"rungs": {"nano": {"sha256": sha256_file(path), "recipe": 5}}})
    )
    assert recipe_beside(path) == {}
    (tmp_path / "card.json").write_text("[" * 100_000)
    assert recipe_beside(path) == {}


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", "small"])
def test_weights_of_something_else_are_refused(
    content: bytes | str | None, trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    _, cache, _ = trained
    weights = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        weights.write_bytes(content)
    elif content:
        other = DetectionModel("yolov8s.yaml", nc=len(CATEGORY_NAMES), verbose=False)
        torch.save({"model": other}, weights)
    with pytest.raises(InvalidInput, match="holds no weights of yolov8n"):
        train_rung(replace(TINY, start_from=str(weights)), tmp_path / "out", cache)


def test_all_rungs_advance_in_turns_and_go_on_from_where_they_were(
    trained: tuple[Path, Path, list[StepReport]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_all, "SLICES", 2)
    monkeypatch.setattr(train, "ARCHITECTURES", dict.fromkeys(LADDER, "yolov8n"))
    monkeypatch.setattr(train, "SERVED_SIZES", dict.fromkeys(LADDER, (64, 96)))
    config, seen = replace(TINY, iterations=8), list[tuple[str, int]]()

    def stop(report: StepReport) -> None:
        seen.append((report.rung, report.step))
        if seen[-1] == ("large", 3):
            raise Interrupted

    with pytest.raises(Interrupted):
        train_ladder(config, tmp_path, trained[1], on_step=stop)
    turns = [(rung, step) for steps in ((1, 2), (3, 4)) for rung in LADDER for step in steps]
    assert seen == turns[:-1]
    assert (tmp_path / "small.pt").is_file() and (tmp_path / "large.checkpoint").is_file()

    seen.clear()
    written = train_ladder(
        config, tmp_path, trained[1], on_step=lambda r: seen.append((r.rung, r.step))
    )
    assert seen == [("large", 3), ("large", 4)]
    assert [path.name for path in written] == ["nano.pt", "small.pt", "large.pt"]
    assert all(path.is_file() for path in written)
    with pytest.raises(ConfigurationError, match=r"nano.pt was trained by another recipe"):
        train_ladder(replace(config, learning_rate=0.1), tmp_path, trained[1])
