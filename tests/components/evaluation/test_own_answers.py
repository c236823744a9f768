"""The yardstick of a frame's own answers, where these say which rung is needed."""

from __future__ import annotations

import numpy as np
from replay_samples import data_of, detections_of, replay_of

from components.evaluation.alternatives import Bench
from components.evaluation.own_answers import own_answers
from inference_graph.contract import LADDER

BOX = [100.0, 100.0, 100.0, 100.0]
FRAMES = 120


def bench_of(seed: int) -> Bench:
    """On hard frames only large is worth anything, and nano's look at the same frame says so."""
    hard = np.random.default_rng(seed).random(FRAMES) < 0.4
    data = data_of(FRAMES, [(frame, BOX, 1, 0) for frame in range(FRAMES)])
    found = [
        detections_of(FRAMES, [(frame, BOX, 0.9, 1) for frame in range(FRAMES)], rung)
        for rung in LADDER
    ]
    replay = replay_of([FRAMES])
    replay.looks[:] = 0.0
    replay.looks[:, 0, 3] = hard
    replay.quality[:] = np.where(hard[:, None], [[0.0, 0.0, 1.0]], [[1.0, 1.0, 1.0]])
    return Bench.build(replay, data, found, periods=())


def test_it_asks_large_where_the_frame_itself_needs_it() -> None:
    learn, judge = bench_of(1), bench_of(2)
    cheap, dear = own_answers(learn, judge, [0.3, 100.0])
    hard = judge.replay.looks[:, 0, 3] > 0
    assert cheap.choice.tolist() == np.where(hard, 2, 0).tolist()
    np.testing.assert_allclose(
        cheap.latency_ms,
        judge.replay.latency_ms[:, [0]][:, 0] * ~hard + judge.replay.latency_ms[:, 2] * hard,
    )
    assert (dear.choice == 0).all()
