"""Small ONNX models: a detector whose answer is known, a YOLOv8 with random weights, a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
from made_once import made_once
from onnx import helper
from tiny_models import NAMES, MakeDetector, MakePolicy, drawn, save_detector, save_policy

from feature_transformer.observation import OBSERVATION_SIZE

if TYPE_CHECKING:
    from all_services import Services
    from gateway_samples import Rungs, Served


@pytest.fixture
def make_detector(tmp_path: Path) -> MakeDetector:
    """Builds a detector that answers the same rows for every image, see ``save_detector``."""

    def make(
        rows: Sequence[Sequence[float]] = (),
        names: Sequence[str] = ("person", "car"),
        size: tuple[int | str, int | str] = (192, 256),
        name: str = "detector.onnx",
        output: str = "output0",
        notes: Mapping[str, str | None] | None = None,
    ) -> Path:
        return save_detector(tmp_path / name, rows, names, size, output, notes)

    return make


@pytest.fixture
def make_policy(tmp_path: Path) -> MakePolicy:
    """Builds a linear policy; ``weights`` float32 [OBSERVATION_SIZE, 3], ``bias`` float32 [3]."""

    def make(
        weights: np.ndarray | None = None,
        bias: Sequence[float] = (0.0, 0.0, 0.0),
        name: str = "policy.onnx",
        size: int = OBSERVATION_SIZE,
        notes: Mapping[str, str | None] | None = None,
    ) -> Path:
        table = np.zeros((size, 3), np.float32) if weights is None else weights
        return save_policy(tmp_path / name, table, bias, notes)

    return make


@pytest.fixture
def rungs(make_detector: MakeDetector) -> Rungs:
    """A ladder in process: nano sees one object on every frame, small two and large three."""
    from gateway_samples import troubled_rungs  # most tests here do without a gateway

    return troubled_rungs(make_detector)


@pytest.fixture
def gateway(rungs: Rungs, make_policy: MakePolicy) -> Iterator[Served]:
    """A gateway whose policy takes the rungs in turn."""
    from gateway_samples import climbing_weights, gateway_settings, served

    policy = make_policy(climbing_weights(), (0.1, 0, 0))
    with served(gateway_settings(policy=policy), rungs) as running:
        yield running


@pytest.fixture(scope="session")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv8n with random weights, nine classes, 192x256, exported as Ultralytics does."""
    return made_once(tmp_path_factory, "yolo", _export_yolo)


def _export_yolo(folder: Path) -> Path:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = DetectionModel("yolov8n.yaml", nc=len(NAMES), verbose=False)
    # Statistics of real activations, or an untrained network answers the same everywhere.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    frames = np.stack([drawn(192, 256, seed) for seed in range(4)])[..., ::-1]
    with torch.no_grad():
        model.train()(torch.tensor(frames.transpose(0, 3, 1, 2) / 255, dtype=torch.float32))
    head = model.model[-1]
    for branch in head.cv3:  # class scores: rare, spread out
        torch.nn.init.normal_(branch[-1].weight, std=0.3)
        torch.nn.init.constant_(branch[-1].bias, -6.0)
    for branch in head.cv2:  # box sides: short ones are likelier
        torch.nn.init.normal_(branch[-1].weight, std=0.2)
        branch[-1].bias.data = -0.5 * torch.arange(16.0).repeat(4)
    head.export, head.format = True, "onnx"
    path = folder / "yolov8n.onnx"
    torch.onnx.export(
        model.eval().fuse(verbose=False),
        (torch.zeros(1, 3, 192, 256),),
        str(path),
        input_names=["images"],
        output_names=["output0"],
        dynamo=False,
        opset_version=17,
    )
    torch.set_num_threads(threads)
    exported = onnx.load(str(path))
    notes = {"names": str(dict(enumerate(NAMES))), "imgsz": "[192, 256]", "stride": "32"}
    helper.set_model_props(exported, notes | {"task": "detect", "batch": "1"})
    onnx.save(exported, str(path))
    return path


@pytest.fixture(scope="session")
def street() -> np.ndarray:
    """A drawn frame, uint8 [300, 500, 3], BGR."""
    return drawn(300, 500)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory, sample_ladder: Path) -> Iterator[Services]:
    """Gateway, graph, rung and router, started once for all tests that ask any of them."""
    from all_services import all_services

    with all_services(tmp_path_factory.mktemp("services"), sample_ladder) as running:
        yield running
