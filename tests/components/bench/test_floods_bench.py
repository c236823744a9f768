"""The benchmark of floods: its arithmetic by hand, and one flood beside two good streams."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from components.bench.floods import bench
from components.bench.floods.bench import BenchFloodsConfig, GoodStream, bench_floods
from components.bench.floods.hostile import ATTACKS
from inference_graph.contract import LADDER


def test_a_ratio_is_of_the_99th_percentiles() -> None:
    alone = GoodStream([10.0] * 99 + [20.0], Counter(detections=100))
    beside = GoodStream([30.0] * 100, Counter(detections=97, dropped=2, none=1))
    figures = beside.figures(alone)
    assert (figures["frames"], figures["unanswered"], figures["p50_ms"]) == (100, 3, 30.0)
    assert figures["ratio"] == pytest.approx(30.0 / 10.1)  # between the 99th and the 100th
    assert alone.figures(alone)["ratio"] == 1.0


def test_good_streams_are_answered_beside_a_flood(
    sample_ladder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "ATTACKS", {"pings": ATTACKS["pings"]})
    ladder = {rung: sample_ladder / f"{rung}.onnx" for rung in LADDER}
    done: list[tuple[int, int]] = []
    config = BenchFloodsConfig(seconds=1.0, fps=5.0, side=96)
    found = bench_floods(ladder, config, lambda count, total: done.append((count, total)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert set(found.floods) == {"pings"}
    pings = found.floods["pings"]
    assert pings["refused_or_cut"] >= 1
    for name in ("same token", "other token"):
        assert (pings[name]["frames"], found.alone[name]["frames"]) == (5, 10)
        assert pings[name]["p99_ms"] >= pings[name]["p50_ms"] > 0
    assert found.worst_ratio == max(pings[name]["ratio"] for name in ("same token", "other token"))
