from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from components.ladder.train import (
    LadderTrainConfig,
    StepReport,
    learning_rate_factor,
    train_rung,
)
from components.scenes.sprites import CATEGORY_NAMES
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import sha256_file

TINY = LadderTrainConfig(
    rung="nano", iterations=12, frames=4, batch=2, height=64, width=64, seed=3, checkpoint_every=3,
    threads=1, device="cpu",
)  # fmt: skip


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
    again = train_rung(TINY, tmp_path, cache, on_step=resumed.append)
    assert [file.name for file in tmp_path.iterdir()] == ["nano.pt"]
    assert [report.step for report in resumed] == [4, 5, 6]
    assert resumed[-1].loss == reports[-1].loss
    expected, found = weights_of(path), weights_of(again)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


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
    with pytest.raises(ConfigurationError, match="belongs to a run with another configuration"):
        train_rung(replace(config, learning_rate=1e-2), tmp_path, trained[1])
    assert (tmp_path / "nano.checkpoint").is_file()


def test_the_checkpoint_opens_in_ultralytics_and_tells_its_recipe(
    trained: tuple[Path, Path, list[StepReport]],
) -> None:
    from ultralytics import YOLO

    network = YOLO(trained[0], task="detect")
    assert tuple(network.names.values()) == CATEGORY_NAMES
    state: dict[str, Any] = torch.load(trained[0], weights_only=False)
    assert state["gearshift"] == {**TINY.__dict__, "start_from": {}}
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
        ({"height": 100}, "input 100x64 does not suit the network"),
        ({"iterations": 1}, "1 iterations are less than one batch of 2"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(TINY, **bad)


def test_a_run_goes_on_from_the_weights_of_another(
    trained: tuple[Path, Path, list[StepReport]], tmp_path: Path
) -> None:
    path, cache, _ = trained
    still = replace(TINY, iterations=2, learning_rate=0.0, start_from=str(path))
    again = train_rung(still, tmp_path, cache)
    expected, found = weights_of(path), weights_of(again)
    for name, value in expected.items():  # at a rate of zero only batch statistics move
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, found[name]), name
    recipe = torch.load(again, weights_only=False)["gearshift"]
    assert recipe["start_from"]["iterations"] == 12
    assert recipe["start_from"]["sha256"] == sha256_file(path)


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
