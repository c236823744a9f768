"""A retraining from end to end, small: what it learns from, what it leaves, and who decides."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mlflow.tracking import MlflowClient
from onnx import TensorProto, helper, numpy_helper
from small_training import LENIENT, SMALL, flags
from typer.testing import CliRunner, Result

import gearshift
from components.data.dataset import load_dataset
from components.data.split import load_split
from components.scenes.sprites import CATEGORY_IDS
from components.scenes.writer import ScenesConfig, write_scenes
from feature_transformer.observation import OBSERVATION_SIZE, SCHEMA_HASH
from foundation.signing.keys import new_key
from foundation.signing.trust import check_signed, trust_key
from inference_graph.contract import LADDER
from inference_graph.control.rollout.state import read_state
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

pytestmark = pytest.mark.timeout(600)

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
SETTINGS = {
    **SMALL,
    **LENIENT,
    "split.train": 0.4,
    "split.validation": 0.15,
    "split.test": 0.45,
    "evaluate.fleet_sizes": 1,
}


def scenes(folder: Path, condition: str, clips: int, seed: int) -> Path:
    write_scenes(
        ScenesConfig(
            clips=clips,
            clip_frames=3,
            condition=condition,
            width=320,
            height=240,
            seed=seed,
            workers=1,
        ),
        folder,
    )
    return folder


def champion(file: Path) -> Path:
    """A policy that takes small for every frame."""
    bias = np.array([0, 9, 0], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["observations", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["action"], axis=1, keepdims=0),
        ],
        "policy",
        [helper.make_tensor_value_info("observations", TensorProto.FLOAT, ["n", OBSERVATION_SIZE])],
        [
            helper.make_tensor_value_info("action", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
        ],
        [
            numpy_helper.from_array(np.zeros((OBSERVATION_SIZE, 3), np.float32), "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    notes = {
        "gearshift.schema_hash": SCHEMA_HASH,
        "gearshift.ladder": json.dumps(list(LADDER)),
        "gearshift.latency_weight": "0.1",
    }
    helper.set_model_props(model, notes)
    onnx.save(model, str(file))
    return file


def log_of(folder: Path, street: Path) -> str:
    """The street as the log has it: every frame kept, large saw all that is there."""
    data = load_dataset(street)
    with PredictionLog(LogConfig(str(folder))) as log:
        for index, image in enumerate(data.images):
            own = data.annotations_of(index)
            labels = [CATEGORY_IDS.index(int(kind)) for kind in data.category_ids[own]]
            log.append(
                PredictionRow(
                    event_id=f"e{index}",
                    time=NOON + timedelta(seconds=index),
                    source="stream",
                    session=str(image.clip),
                    frame_id=image.frame_index,
                    answered_by="small",
                    rung="small",
                    width=image.width,
                    height=image.height,
                    shadow=True,
                    shadow_boxes=data.boxes_xyxy[own],
                    shadow_scores=[0.9] * len(labels),
                    shadow_labels=labels,
                    tags={"condition": "night"},
                    image=data.path_of(index).read_bytes(),
                )
            )
    return str(folder)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(gearshift.app, [*map(str, arguments), *flags(SETTINGS)])


def read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


@pytest.mark.slow
def test_a_challenger_learns_from_both_and_is_distinguished(
    tmp_path: Path, light_ladder: Path
) -> None:
    old = scenes(tmp_path / "old", "day", 12, seed=3)
    log = log_of(tmp_path / "log", scenes(tmp_path / "street", "night", 12, seed=4))
    policy, out = champion(tmp_path / "champion.onnx"), tmp_path / "out"
    private, public = new_key("release-2026", tmp_path)
    trust_key(tmp_path / "trust.json", public)
    before = policy.read_bytes()
    since = (NOON + timedelta(seconds=3)).isoformat()
    result = run(
        "retrain",
        "--champion",
        policy,
        "--data",
        old,
        "--log",
        log,
        "--since",
        since,
        "--ladder",
        light_ladder,
        "--out",
        out,
        "--bootstrap",
        20,
        "--feedback",
        tmp_path / "none",
        "--rollout",
        tmp_path / "rollout",
        "--key",
        private,
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    reported = json.loads(result.stdout)
    report = read(out / "report.json")
    compared = report["challenge"]

    data, parts = load_dataset(out / "data"), load_split(out / "split.json")
    assert [image.pseudo for image in data.images] == [False] * 36 + [True] * 33
    held_out = load_dataset(Path(read(out / "run.json")["result"]["dataset"])).subset(parts.test)
    counted = [sum(image.pseudo is new for image in held_out.images) for new in (False, True)]
    assert [side["frames"] for side in compared["sides"]] == counted
    # The gate judged by people's annotations alone; the comparison by both.
    assert report["data"]["frames"]["judge"] == counted[0]
    assert compared["harvest"]["images"] == 33
    for side in compared["sides"]:
        assert side["rows"]["champion"]["shares"] == {"nano": 0, "small": 1, "large": 0}
        assert side["rows"]["champion"]["map"] == side["rows"]["always-small"]["map"]

    passed = [check["passed"] for check in compared["verdict"]["checks"]]
    assert reported["released"] == (compared["gate_passed"] and all(passed))
    assert reported["outcome"].startswith("released" if reported["released"] else "refused")
    assert (out / "release.json").exists() == reported["released"]
    begun = read_state(tmp_path / "rollout")
    assert reported["rollout"] == (begun.rollout if begun is not None else "")
    assert (begun is not None) == reported["released"]
    # What is released is signed, and a service that trusts the key takes it, also as a canary.
    assert (out / "policy.onnx.sig").exists() == reported["released"]
    if begun is not None:
        for file in (out / "policy.onnx", Path(begun.source)):
            signer = check_signed(tmp_path / "trust.json", file, report["policy"]["sha256"])
            assert signer.name == "release-2026"
        assert begun.model == "policy" and begun.sha256 == report["policy"]["sha256"]
    assert reported["challenger"] == report["policy"]["revision"] != reported["champion"]
    assert policy.read_bytes() == before
    pages = {name: (out / name).read_text("utf-8") for name in ("report.html", "evaluation.html")}
    assert "Champion and challenger" in pages["report.html"]
    assert "Routing report" in pages["evaluation.html"]

    uri = f"sqlite:///{out.parent / 'mlflow.db'}"
    (version,) = MlflowClient(uri, registry_uri=uri).search_model_versions()
    assert version.tags["challenge"] == ("released" if reported["released"] else "refused")


def test_what_is_missing_is_reported_before_anything_is_trained(tmp_path: Path) -> None:
    policy, log = champion(tmp_path / "champion.onnx"), tmp_path / "log"
    lost = run("retrain", "--champion", policy, "--log", log, "--out", tmp_path / "out")
    assert lost.exit_code == 1
    assert "name its data with --data" in lost.stderr
    wrong = run("retrain", "--since", "2026-05-04", "--until", "2026-05-03")
    assert wrong.exit_code == 1
    assert "is not before until" in wrong.stderr
    unlocked = run(
        "retrain",
        "--champion",
        policy,
        "--data",
        log,
        "--log",
        log,
        "--key",
        tmp_path / "release.key",
        "--out",
        tmp_path / "out",
    )
    assert unlocked.exit_code == 1
    assert "release.key" in unlocked.stderr and not (tmp_path / "out").exists()
    both = run("retrain", "--swap", "http://127.0.0.1:9", "--rollout", tmp_path / "rollout")
    assert both.exit_code == 1
    assert "at once or step by step" in both.stderr
