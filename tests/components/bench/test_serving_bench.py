"""The serving benchmark: its arithmetic by hand, and one short run against the real services."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from replay_samples import Learned

from components.bench.serving.bench import bench_serving
from components.bench.serving.clips import answered_detections, encoded_clips, map_of_answers
from components.bench.serving.faults import seen_of_kill
from components.bench.serving.paths import PathTimes
from components.bench.serving.settings import BenchServingConfig
from components.bench.serving.turns import Turn
from components.data.classes import Classes
from components.data.dataset import load_dataset
from components.parallel import Progress, no_progress
from components.scenes.writer import ScenesConfig, write_scenes
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER, Detections


def test_ratios_are_of_means_and_the_difference_of_medians() -> None:
    times = PathTimes(
        stream=[10.0, 20.0, 60.0, 30.0],
        stages=[{"total": 8.0}, {"total": 16.0}, {"total": 56.0}, {"total": 28.0}],
        parts=[
            {"decode": 1.0, "route": 1.0, "detect": 6.0},
            {"decode": 1.0, "route": 1.0, "detect": 14.0},
            {"decode": 1.0, "route": 1.0, "detect": 50.0},
            {"decode": 1.0, "route": 1.0, "detect": 22.0},
        ],
        fixed=[60.0, 60.0, 60.0, 60.0],
        graph=[15.0, 99.0, 70.0, 36.0],
        rungs=["nano", "small", "large", "small"],
        graph_rungs=["nano", "large", "large", "small"],
    )
    figures = times.figures(routed_map=0.57, large_map=0.60)
    assert figures["stream_over_parts"] == pytest.approx(120 / 100)
    assert figures["gateway_over_parts"] == pytest.approx(108 / 100)
    assert figures["stream_over_large"] == pytest.approx(30 / 60)
    # Of the frames both ways sent to one rung: 15, 70, 36 against 10, 60, 30.
    assert figures["graph_minus_stream_ms"] == pytest.approx(36 - 30)
    assert figures["retained"] == pytest.approx(0.95)
    detail = figures["detail"]
    assert detail["same_rung_in_graph"] == pytest.approx(0.75)
    assert detail["shares"] == {"nano": 0.25, "small": 0.5, "large": 0.25}
    assert detail["parts_stages_ms"] == {"decode": 1.0, "route": 1.0, "detect": 23.0}


def test_without_a_frame_both_ways_agree_on_there_is_no_difference() -> None:
    times = PathTimes(
        stream=[10.0],
        stages=[{"total": 9.0}],
        parts=[{"detect": 8.0}],
        fixed=[60.0],
        graph=[15.0],
        rungs=["nano"],
        graph_rungs=["large"],
    )
    assert math.isnan(times.figures(0.5, 0.5)["graph_minus_stream_ms"])


def test_an_answer_that_comes_late_after_a_kill_is_seen() -> None:
    def turn(milliseconds: float, fallback: str = "") -> Turn:
        return Turn(milliseconds, {"type": "detections", "fallback": fallback})

    stream = [
        turn(900.0),  # before the kill: not its doing
        turn(12.0),
        turn(480.0, "failed"),  # the frame that found out
        turn(30.0, "open"),
        turn(430.0, "late"),
        turn(15.0),
        Turn(9.0, {"type": "error", "detail": "no rung answered in time"}),
    ]
    seen = seen_of_kill(stream, killed_after=2, deadline_ms=400.0)
    assert seen == {"answers": 6, "late_ms": 30.0, "first_ms": 480.0, "fallbacks": 3}


def test_answers_are_judged_as_they_were_sent(tmp_path: Path) -> None:
    write_scenes(
        ScenesConfig(clips=2, clip_frames=3, width=160, height=128, seed=4, workers=1), tmp_path
    )
    dataset = load_dataset(tmp_path)
    clips = encoded_clips(dataset)
    assert sorted(index for clip in clips for index in clip.indexes) == list(range(6))
    assert clips[0].frames[0] == dataset.path_of(clips[0].indexes[0]).read_bytes()
    ids = [one.id for one in dataset.categories]
    classes = Classes(tuple(one.name for one in dataset.categories), tuple(ids))
    perfect: dict[int, Detections] = {}
    for index in range(len(dataset)):
        rows = dataset.annotations_of(index)
        reported = [
            {"box": box.tolist(), "score": 0.9, "label": ids.index(int(category))}
            for box, category in zip(
                dataset.boxes_xyxy[rows], dataset.category_ids[rows], strict=True
            )
        ]
        perfect[index] = answered_detections(reported)
    assert map_of_answers(dataset, perfect, classes) == pytest.approx(1.0)
    nothing = answered_detections([])
    assert nothing.boxes.shape == (0, 4)
    blind = {index: nothing for index in perfect}
    assert map_of_answers(dataset, blind, classes) == 0.0


@pytest.mark.parametrize(
    ("name", "value"), [("clips", 0), ("callers", 0), ("soak_seconds", -1.0), ("kill_frames", -1)]
)
def test_a_value_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        BenchServingConfig(**{name: value})  # type: ignore[arg-type]  # one of several fields


@pytest.mark.slow
def test_the_services_are_measured_from_their_clients_side(
    learned: Learned, light_ladder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = []

    @contextlib.contextmanager
    def bar(label: str) -> Iterator[Progress]:
        labels.append(label)
        yield no_progress

    config = BenchServingConfig(
        clips=1,
        clip_frames=5,
        detector_seconds=0.5,
        soak_seconds=4.0,
        kill_frames=0,
        condition="day",
        input_side=0,
    )
    ladder = {rung: light_ladder / f"{rung}.onnx" for rung in LADDER}
    result = bench_serving(learned.policies / "policy.onnx", ladder, config, bar)
    assert labels == ["scenes", "start", "paths", "detectors", "memory"]
    paths = result.detail["paths"]
    assert paths["frames"] == 5 and sum(paths["shares"].values()) == pytest.approx(1.0)
    # The same context was sent both ways, so both decide alike.
    assert paths["same_rung_in_graph"] == 1.0
    assert paths["stream_ms"] > paths["stream_stages_ms"]["total"] > 0
    assert result.retained == pytest.approx(paths["map"] / paths["large_map"])
    assert set(result.detail["detectors"]["rungs"]) == set(LADDER)
    rows = result.detail["detectors"]["rungs"].values()
    lowest = min(row[f"{result.provider}_per_second"] / row["ort_per_second"] for row in rows)
    assert result.detector_over_ort == pytest.approx(lowest)
    assert result.rss_growth is not None and np.isfinite(result.rss_growth)
    assert result.kill_answers is None and result.kill_recovery_s is None
    assert capfd.readouterr().out == ""  # `--json` prints the result there, and nothing else
