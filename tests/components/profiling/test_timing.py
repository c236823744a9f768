from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coco_samples import box_record, image_record, write_canonical, write_detector, write_ladder

from components.data.ingest import IngestConfig, ingest
from components.profiling.timing import (
    TimingConfig,
    Timings,
    load_timings,
    time_ladder,
    usd_per_million,
)
from feature_transformer.image import check_frame
from feature_transformer.sound import wav_of
from foundation.errors import ConfigurationError, InvalidInput, ModelError
from inference_graph.contract import LADDER

QUICK = TimingConfig(images=4, repeats=3, warmup=2, threads=1, price_per_hour_usd=3.6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = [image_record(number) for number in range(1, 9)]
    return write_canonical(tmp_path / "data", images, [box_record(1, 1, [1, 1, 9, 9])])


def test_a_slower_rung_takes_longer(folder: Path, tmp_path: Path) -> None:
    ladder = write_ladder(tmp_path / "ladder")
    seen: list[tuple[int, int]] = []
    out = tmp_path / "timings.json"
    summary = time_ladder(folder, ladder, out, QUICK, lambda d, t: seen.append((d, t)))
    assert summary.images == 4
    assert list(summary.median_ms) == ["nano", "small", "large"]
    assert 0 < summary.median_ms["nano"] < summary.median_ms["large"]
    assert summary.observe_ms > 0
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    timings = load_timings(out)
    assert timings.sample_ms.shape == (4, 3)
    assert set(timings.sample_ids.tolist()) <= set(range(1, 9))
    for column, rung in enumerate(timings.rungs):
        mean = timings.sample_ms[:, column].mean()
        # At 3.60 USD an hour, a million frames of a millisecond cost one dollar.
        assert summary.usd_per_million[rung] == pytest.approx(mean, rel=1e-3, abs=1e-4)
    stored = json.loads(out.read_text())
    runs = np.array(stored["runs_ms"])
    assert stored["lanes"] == ["observe", "nano", "small", "large"]
    assert runs.shape == (4, 3, 4)
    assert np.allclose(np.median(runs, axis=1)[:, 1:], timings.sample_ms)
    facts = timings.facts
    assert set(facts["sha256"]) == set(ladder)
    assert facts["settings"]["repeats"] == 3
    assert facts["frame_sizes"] == [[48, 64]]
    assert facts["machine"]["cores"] >= 1
    assert "onnxruntime" in facts["versions"]


def test_the_observation_that_is_timed_is_the_tasks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "own"
    source.mkdir()
    for name in ("a", "b"):
        (source / f"{name}.wav").write_bytes(wav_of(np.arange(8_000, dtype=np.int16)))
        (source / f"{name}.txt").write_text("hello")
    ingest(str(source), tmp_path / "data", IngestConfig(cache=str(tmp_path / "cache")))
    rung = SimpleNamespace(
        detect=lambda frame: check_frame(frame, sound=True),
        running_providers=("CPUExecutionProvider",),
        sha256="0" * 64,
        input_size=(400, 1200),
    )
    monkeypatch.setattr(
        "components.profiling.timing.open_ladder", lambda *_: dict.fromkeys(LADDER, rung)
    )
    ladder = {name: tmp_path / f"{name}.json" for name in LADDER}
    # A picture's observation would refuse the recording.
    summary = time_ladder(tmp_path / "data", ladder, tmp_path / "timings.json", QUICK)
    assert summary.images == 2 and summary.observe_ms > 0


def test_the_sample_follows_the_seed(folder: Path, tmp_path: Path) -> None:
    ladder = write_ladder(tmp_path / "ladder")
    samples = []
    for seed in (0, 0, 1, 2, 3):
        config = TimingConfig(images=3, repeats=1, warmup=0, threads=1, seed=seed)
        time_ladder(folder, ladder, tmp_path / "t.json", config)
        samples.append(tuple(load_timings(tmp_path / "t.json").sample_ids.tolist()))
    assert samples[0] == samples[1]
    assert len(set(samples)) > 1
    assert all(list(sample) == sorted(set(sample)) for sample in samples)


def test_untimed_frames_take_the_sample_in_turn() -> None:
    timings = Timings(
        rungs=("nano", "small", "large"),
        sample_ids=np.array([20, 50]),
        sample_ms=np.array([[1, 2, 8], [3, 4, 9]], np.float32),
        sample_observe_ms=np.array([0.5, 0.7], np.float32),
        dataset_ids=np.array([10, 20, 30, 40, 50, 60]),
        price_per_hour_usd=0.36,
        facts={},
    )
    # 10, 30, 40, 60 are untimed: rows 0, 1, 0, 1; 20 and 50 have their own.
    rows = [0, 0, 1, 0, 1, 1]
    everything = timings.latencies([10, 20, 30, 40, 50, 60])
    assert everything.tolist() == timings.sample_ms[rows].tolist()
    assert timings.latencies([60, 30]).tolist() == [[3, 4, 9], [3, 4, 9]]  # as in any other call
    # Frames of another data set, in the order of the call.
    assert timings.latencies([901, 902, 903]).tolist() == timings.sample_ms[[0, 1, 0]].tolist()
    assert timings.latencies([]).shape == (0, 3)
    assert timings.observe_ms == pytest.approx(0.6)
    assert timings.usd_per_million(10.0) == pytest.approx(1.0)


def test_cost_is_time_by_price() -> None:
    # 36 ms a frame are 10 hours for a million frames; 0.526 USD each.
    assert usd_per_million(36.0, 0.526) == pytest.approx(5.26)


def test_bad_ladders_and_settings(folder: Path, tmp_path: Path) -> None:
    ladder = write_ladder(tmp_path / "ladder")
    out = tmp_path / "t.json"
    with pytest.raises(ConfigurationError, match="rungs nano, large; give weights for"):
        time_ladder(folder, {k: ladder[k] for k in ("nano", "large")}, out, QUICK)
    four = write_detector(tmp_path / "four.onnx", names=("person", "car", "dog", "bus"))
    with pytest.raises(ModelError, match="large has 4 classes against 3"):
        time_ladder(folder, {**ladder, "large": four}, out, QUICK)
    changes: list[dict[str, Any]] = [
        {"images": 0},
        {"repeats": 0},
        {"warmup": -1},
        {"price_per_hour_usd": 0},
    ]
    for change in changes:
        with pytest.raises(ConfigurationError, match=next(iter(change))):
            time_ladder(folder, ladder, out, TimingConfig(**change))
    assert not out.exists()
    for content in ("", "{}", '{"rungs": ["nano"], "runs_ms": [[[1, 2, 3]]]}'):
        out.write_text(content)
        with pytest.raises(InvalidInput, match="run the timing stage again"):
            load_timings(out)
