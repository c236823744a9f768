"""The demo from end to end, small: what it leaves behind, what is reused, and who is registered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from small_training import ALTERNATIVES, LENIENT, SMALL, flags
from typer.testing import CliRunner, Result

import gearshift
from components.data.dataset import load_dataset
from components.data.split import load_split
from components.experiments.outcome import METRICS, metrics_of
from components.experiments.verify import verify
from feature_transformer.observation import OBSERVATION_SIZE
from foundation.errors import StepFailed
from inference_graph.router import Policy
from pipelines.experiments.schema import open_ledger
from pipelines.training.run import ledger_beside, run_training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIGURES = {"name", "map", "retained", "mean_ms", "p95_ms", "fps", "usd_per_million"}
STEPS = {
    *("ingest", "validate", "spot check", "compare rungs", "split", "observe", "profile nano"),
    *("profile small", "profile large", "time", "label", "clone", "refine", "reference"),
    *("evaluate", "gate"),
}


def _run(*arguments: object, **settings: Any) -> Result:
    options = flags({**SMALL, **LENIENT, **settings})
    result = CliRunner().invoke(gearshift.app, [*map(str, arguments), *options])
    assert result.exit_code == 0, result.stderr
    return result


def _read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def _versions(out: Path) -> list[str]:
    uri = f"sqlite:///{out.parent / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    return [str(version.version) for version in client.search_model_versions()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, light_ladder: Path) -> Path:
    """Results of a small demo whose gate lets every policy pass."""
    out = tmp_path_factory.mktemp("chain") / "demo"
    size = ("--learn-clips", 6, "--held-out-clips", 3, "--clip-frames", 4, "--video-frames", 7)
    result = _run("demo", *size, "--ladder", light_ladder, "--out", out)
    assert "always-large" in result.stdout and str(out / "routed.mp4") in result.stdout
    assert all(f"{step}: done" in result.stderr for step in STEPS | {"register"})
    return out


def test_the_report_has_a_row_for_every_alternative(demo: Path) -> None:
    report = _read(demo / "report.json")
    assert [row["name"] for row in report["rows"]] == ALTERNATIVES
    for row in report["rows"]:
        assert set(row) >= FIGURES
        assert row["fps"] == pytest.approx(1000 / row["mean_ms"])
    large = report["rows"][0]
    assert large["retained"] == 1.0 and large["map"] > 0.4
    # One hour of the machine costs the stated price, so a million frames cost ms/3.6 times it.
    price = report["measurement"]["price_per_hour_usd"]
    for row in report["rows"]:
        assert row["usd_per_million"] == pytest.approx(row["mean_ms"] * price / 3.6)
    assert {"retained", "latency_ratio", "gap_share"} <= set(report["curve"][0])
    assert report["gate"]["passed"] is True
    assert {"name", "value", "threshold", "passed"} <= set(report["gate"]["checks"][0])
    assert "plotly" in (demo / "report.html").read_text("utf-8").lower()


def test_exactly_the_held_out_clips_are_judged(demo: Path) -> None:
    dataset = load_dataset(Path(_read(demo / "run.json")["result"]["dataset"]))
    split = load_split(demo / "split.json")
    assert len(dataset) == 36
    parts = {
        name: {dataset.images[i].clip for i in dataset.index_of(ids)}
        for name, ids in (
            ("train", split.train),
            ("validation", split.validation),
            ("test", split.test),
        )
    }
    assert {name: len(clips) for name, clips in parts.items()} == {
        "train": 5,
        "validation": 1,
        "test": 3,
    }
    assert _read(demo / "report.json")["data"]["frames"] == {"learn": 24, "judge": 12}


def test_the_profile_has_a_row_per_image_and_rung(demo: Path) -> None:
    profile = pd.read_parquet(demo / "replay" / "profile.parquet")
    assert len(profile) == 36 * 3
    assert profile.groupby("image_id").optimal.sum().eq(1).all()
    hour = _read(demo / "timings.json")["price_per_hour_usd"]
    assert np.allclose(
        profile.cost_usd_per_million, profile.latency_ms / 3.6e6 * hour * 1e6, rtol=1e-3
    )


def test_the_released_policy_decides(demo: Path) -> None:
    actions, probabilities = Policy(demo / "policy.onnx").decide(
        np.zeros((4, OBSERVATION_SIZE), np.float32)
    )
    assert actions.shape == (4,) and np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)


def test_the_routed_video_has_a_line_for_every_frame(demo: Path) -> None:
    lines = [json.loads(line) for line in (demo / "routed.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(7))
    video = cv2.VideoCapture(str(demo / "routed.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 7
    video.release()


def test_a_passing_policy_is_registered_once_and_a_refused_one_never(
    demo: Path, light_ladder: Path
) -> None:
    """Fails when the gate is skipped: the second run differs in its thresholds only."""
    assert _read(demo / "run.json")["result"]["outcome"].startswith("registered as")
    assert _versions(demo) == ["1"]
    scenes = demo / "scenes"
    again = _run(
        *("pipeline", "run", "--data", scenes, "--ladder", light_ladder, "--out", demo, "--json"),
        **_shares(demo),
    )
    missing = {step for step in STEPS | {"register"} if f"{step}: unchanged" not in again.stderr}
    assert not missing
    assert _versions(demo) == ["1"]

    refused = _run(
        *("pipeline", "run", "--data", scenes, "--ladder", light_ladder, "--out", demo, "--json"),
        **{**_shares(demo), "gate.latency_ratio": 0},
    )
    result = json.loads(refused.stdout)
    assert result["passed"] is False
    assert result["outcome"].startswith("not registered, the gate refused: latency_ratio is ")
    assert all(f"{step}: unchanged" in refused.stderr for step in STEPS - {"gate"})
    assert "gate: done" in refused.stderr and "refuse: done" in refused.stderr
    assert "register" not in result["seconds"]
    assert _versions(demo) == ["1"]
    assert _read(demo / "report.json")["gate"]["passed"] is False


def test_every_run_is_a_launch_of_a_child_of_the_baseline(demo: Path) -> None:
    """Sealed before it ran, scored after, with what it set differently; see the tests before."""
    ledger = open_ledger(ledger_beside(demo))
    assert ledger.attempts("baseline") == []
    child = ledger.experiment(demo.name)
    assert (child.extends, child.under, child.tags) == ("baseline", "baseline", ("demo",))
    assert child.changes["clone.steps"] == 60
    assert child.changes["inputs.data"] == str(demo / "scenes")
    launches = ledger.index.attempts()
    assert [one.state for one in launches[:2]] == ["succeeded"] * 2
    first = launches[0]
    assert first.experiment == demo.name
    assert first.expected == "retained >= 0.95 and latency_ratio <= 0.42"
    report = _read(demo / "report.json")
    assert first.figures["retained"] == report["retained"]
    held = report["retained"] >= 0.95 and report["latency_ratio"] <= 0.42
    assert first.verdict == ("met" if held else "missed")
    assert {one.verdict for one in verify(ledger, launches)} == {"intact"}
    metrics = metrics_of(report)
    # Every report has all documented figures, as far as its data let it exist.
    lacking = {name for name in METRICS if name not in metrics}
    optional = ("scene_types.", "apgr.", "gap_share", "mean_gap_share.")
    assert all(name.startswith(optional) for name in lacking), lacking
    assert {f"fleets.gearshift.cameras_{size}.dropped" for size in (1, 4, 8)} <= set(metrics)
    ledger.close()


def test_a_truncated_image_ends_the_run(demo: Path, light_ladder: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    shutil.copytree(demo / "scenes", scenes)
    broken = sorted((scenes / "images").iterdir())[7]
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(StepFailed, match=broken.name):
        run_training(str(scenes), str(light_ladder), tmp_path / "out", {})
    assert not (tmp_path / "out" / "report.json").exists()


def _shares(demo: Path) -> dict[str, float]:
    """The demo's own split, as settings."""
    split = _read(demo / "run.json")["arguments"]["split"]
    return {f"split.{name}": split[name] for name in ("train", "validation", "test")}
