"""The whole pipeline through KFP's local runner, on photographs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_training import ALTERNATIVES, SMALL, by_stage

from components.profiling.detections import load_detections
from components.profiling.replay import load_replay
from feature_transformer.observation import OBSERVATION_SIZE, SCHEMA_HASH
from inference_graph.contract import LADDER
from inference_graph.router import Policy
from pipelines.training.run import run_training

PHOTOS = (
    Path(os.environ.get("GEARSHIFT_SHARED") or Path(__file__).parents[4] / "shared") / "coco128"
)
IMAGES = 20
"""So many of the photographs are used."""


def some_photos(folder: Path) -> int:
    """A COCO folder of photographs of people; returns the number of their annotations."""
    (source,) = (PHOTOS / "annotations").iterdir()
    content = json.loads(source.read_text("utf-8"))
    people = {one["image_id"] for one in content["annotations"] if one["category_id"] == 1}
    content["images"] = [one for one in content["images"] if one["id"] in people][:IMAGES]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    for part in ("annotations", "train2017"):
        (folder / part).mkdir(parents=True)
    (folder / "annotations" / source.name).write_text(json.dumps(content))
    for image in content["images"]:
        shutil.copy(PHOTOS / "train2017" / image["file_name"], folder / "train2017")
    return len(content["annotations"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the COCO photos are not on this machine")
def test_photographs_go_through_and_the_gate_refuses(tmp_path: Path, light_ladder: Path) -> None:
    out, annotations = tmp_path / "run", some_photos(tmp_path / "photos")
    settings = by_stage({**SMALL, "spot_check.min_map": 0.0})
    run = run_training(str(tmp_path / "photos"), str(light_ladder), out, settings)

    # The ladder has only ever seen drawn scenes: what matters is that the refusal is honest.
    assert not run.passed
    gate = json.loads((out / "gate.json").read_text())
    failed = [check["name"] for check in gate["checks"] if not check["passed"]]
    assert failed and all(name in run.outcome for name in failed)
    assert "register" not in run.seconds and not (out / "registration").exists()

    report = json.loads((out / "report.json").read_text())
    assert {row["name"] for row in report["rows"]} == set(ALTERNATIVES)
    assert report["gate"] == gate
    validation = json.loads((out / "validation" / "validation.json").read_text())
    assert (validation["images"], validation["annotations"]) == (IMAGES, annotations)

    replay = load_replay(out / "replay")
    assert len(replay) == IMAGES
    # Stills have no frame before them, so each is a clip of its own.
    assert (replay.previous == -1).all() and len(replay.clip_bounds) == IMAGES
    split = json.loads((out / "split.json").read_text())
    ids = [i for part in ("train", "validation", "test") for i in split[part]]
    assert sorted(ids) == sorted(replay.image_ids.tolist())

    profiles = [load_detections(file.parent) for file in out.rglob("detections.parquet")]
    assert sorted(rows.facts["rung"] for rows in profiles) == sorted(LADDER)
    for rows in profiles:
        assert len(rows) == IMAGES and (rows.scores > 0).all()
        assert np.isfinite(rows.boxes).all() and (rows.boxes >= 0).all()
    policy = Policy(out / "policy.onnx")
    actions, probabilities = policy.decide(np.zeros((2, OBSERVATION_SIZE), np.float32))
    assert set(actions.tolist()) <= {0, 1, 2}
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert str(np.load(out / "replay" / "replay.npz")["schema_hash"]) == SCHEMA_HASH
