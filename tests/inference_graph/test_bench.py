from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np
import pytest
from tiny_models import MakePolicy, drawn

from components.bench.routing import BenchObserveConfig, bench_observe, plain_features
from feature_transformer.observation import frame_features
from foundation.errors import ConfigurationError
from inference_graph.contract import USES_FRAME_KEY


def test_measures_what_a_frame_costs(make_policy: MakePolicy) -> None:
    config = BenchObserveConfig(repeats=30)
    result = bench_observe(make_policy(), config)
    assert (result.width, result.height, result.repeats) == (640, 480, 30)
    assert result.decide is not None
    for spread in (result.observe, result.decide, result.total, result.track, result.plain):
        assert 0 < spread.median <= spread.p95
    assert result.total.median >= max(result.observe.median, result.decide.median)
    assert result.plain_ratio > 0
    assert asdict(result)["total"].keys() == {"median", "p95"}


def test_a_policy_that_reads_no_frame_pays_for_none(make_policy: MakePolicy) -> None:
    """Features of so large a frame take many times as long as the context alone."""
    config = BenchObserveConfig(repeats=10, width=3840, height=2160)
    blind = make_policy(notes={USES_FRAME_KEY: "false"})
    assert bench_observe(blind, config).observe.median < bench_observe(None, config).observe.median


def test_without_a_policy() -> None:
    result = bench_observe(None, BenchObserveConfig(repeats=5, width=64, height=48, detections=0))
    assert result.decide is None
    assert result.total.median == pytest.approx(result.observe.median, rel=0.05)


def test_the_plain_alternative_tells_the_same_of_a_small_frame() -> None:
    # Up to 320 pixels the edges are sought at full size either way.
    frame = drawn(192, 256)
    np.testing.assert_allclose(plain_features(frame), frame_features(frame), atol=1e-6)


def test_the_thread_count_is_restored() -> None:
    cv2.setNumThreads(2)
    bench_observe(None, BenchObserveConfig(repeats=1, width=32, height=32))
    assert cv2.getNumThreads() == 2


@pytest.mark.parametrize("options", [{"width": 0}, {"repeats": 0}, {"detections": -1}])
def test_bad_options(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        BenchObserveConfig(**options)
