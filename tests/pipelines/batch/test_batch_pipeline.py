"""The batch pipeline through KFP's local runner: its shards make the whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import yaml
from tiny_models import drawn, save_detector

from components.batch.results import read_records
from components.batch.run import BatchConfig, run_batch
from inference_graph.contract import LADDER
from pipelines.batch.pipeline import batch_pipeline
from pipelines.definition import write_pipeline
from pipelines.local import run_locally
from pipelines.placement import PlacementConfig

OPTIONS = {"always": "nano", "part_frames": 2, "confidence": 0.0}


def test_the_shards_make_the_whole(tmp_path: Path) -> None:
    frames, ladder = tmp_path / "frames", tmp_path / "ladder"
    frames.mkdir()
    ladder.mkdir()
    for number in range(5):
        cv2.imwrite(str(frames / f"{number}.png"), drawn(60, 80, seed=number))
    for rung in LADDER:
        save_detector(ladder / f"{rung}.onnx", [[20, 30, 20, 40, 0.1, 0.8]], size=(96, 128))
    weights = {rung: ladder / f"{rung}.onnx" for rung in LADDER}
    run_batch(str(frames), None, weights, tmp_path / "whole", BatchConfig(**OPTIONS))
    steps = []
    run = run_locally(
        batch_pipeline(PlacementConfig(retries=0), parallelism=1),
        {"source": str(frames), "ladder": str(ladder), "shards": 2, "options": OPTIONS},
        tmp_path / "work",
        tmp_path / "logs",
        lambda event: steps.append((event.step, event.state)),
        reuse=False,
    )
    assert run.outputs["frames"] == 5
    found = list(read_records(Path(run.outputs["detections"].path)))
    assert found == list(read_records(tmp_path / "whole"))
    assert [state for step, state in steps if step == "detect"].count("done") == 2


def test_the_compiled_pipeline_fans_out(tmp_path: Path) -> None:
    file = write_pipeline(batch_pipeline(PlacementConfig()), tmp_path)
    spec = next(iter(yaml.safe_load_all(file.read_text("utf-8"))))
    loops = [task for task in spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    assert len(loops) == 1
    assert loops[0]["parameterIterator"]["items"]["inputParameter"].endswith("shards-Output")
