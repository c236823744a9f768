from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_samples import (
    CLASSES,
    COUNT,
    data_of,
    detections_of,
    learnable_replay,
    replay_of,
)

from components.evaluation.alternatives import (
    REUSE_PERIODS,
    Bench,
    Routing,
    at_latency,
    cascade,
    ecore,
    edge_density,
    families,
    fixed_rungs,
    oracle,
    oric,
    previous_frame,
    previous_look,
    random_mixes,
    tuned,
)
from components.evaluation.average_precision import match_detections
from components.evaluation.frontier import Frontier
from components.profiling.replay import Replay
from feature_transformer.observation import FRAME_FEATURES, LOOK_NAMES
from inference_graph.contract import LADDER

BOX = [100.0, 100.0, 100.0, 100.0]
FAR = [400.0, 300.0, 100.0, 100.0]
INF = np.inf


def bench_of(replay: Replay) -> Bench:
    """Every frame has one object; nano finds it on every third frame, small on two, large on all.

    The object stands still on even frames and is elsewhere on odd ones.
    """
    count = len(replay)
    places = [BOX if frame % 2 == 0 else FAR for frame in range(count)]
    data = data_of(count, [(frame, place, 1, 0) for frame, place in enumerate(places)])
    found = [
        detections_of(
            count,
            [
                (f, place, 0.9 - f / (2 * count), 1)
                for f, place in enumerate(places)
                if f % 3 <= rung
            ],
            LADDER[rung],
        )
        for rung in range(3)
    ]
    return Bench.build(replay, data, found)


def test_each_rung_alone_by_hand() -> None:
    bench = bench_of(replay_of([6, 6]))
    fixed = fixed_rungs(bench)
    assert list(fixed) == ["always-nano", "always-small", "always-large"]
    assert [routing.mean_ms for routing in fixed.values()] == [10.0, 20.0, 50.0]
    accuracies = [bench.accuracy(routing) for routing in fixed.values()]
    # Recall 1/3, 2/3 and 1 at precision 1: 34, 67 and 101 of 101 points.
    np.testing.assert_allclose(accuracies, [34 / 101, 67 / 101, 1.0])


def test_the_router_pays_for_itself() -> None:
    bench = bench_of(replay_of([4]))
    assert bench.rung("", np.array([0, 1, 2, 2]), 1.5).latency_ms.tolist() == [
        11.5,
        21.5,
        51.5,
        51.5,
    ]


def test_random_mixes_take_the_shares_they_state() -> None:
    bench = bench_of(replay_of([50, 50]))
    mixes = random_mixes(bench)
    assert len(mixes) == 27
    assert mixes[2].name == "nano+30% small"
    assert np.bincount(mixes[2].choice, minlength=3).tolist() == [70, 30, 0]
    assert mixes[2].mean_ms == pytest.approx(0.7 * 10 + 0.3 * 20)
    assert np.bincount(mixes[17].choice, minlength=3).tolist() == [0, 10, 90]
    assert np.bincount(mixes[18].choice, minlength=3).tolist() == [90, 0, 10]
    np.testing.assert_array_equal(mixes[5].choice, random_mixes(bench)[5].choice)


def test_mixing_two_routings_meets_the_latency_asked_for() -> None:
    bench = bench_of(replay_of([100, 100]))
    fixed = list(fixed_rungs(bench).values())
    for asked in (12.5, 20.0, 37.0, 49.9):
        mixed = at_latency(fixed, asked, bench)
        step = (20 - 10 if asked < 20 else 50 - 20) / 200  # what one frame adds to the mean
        assert mixed.mean_ms == pytest.approx(asked, abs=step / 2 + 1e-9)
        frontier = Frontier.of((r.mean_ms, bench.accuracy(r)) for r in fixed)
        assert bench.accuracy(mixed) == pytest.approx(frontier.at(asked), abs=0.06)


def test_mixing_takes_the_neighbours_on_the_frontier_only() -> None:
    bench = bench_of(replay_of([60]))
    fixed = list(fixed_rungs(bench).values())
    poor = replace(fixed[0], name="poor", latency_ms=fixed[1].latency_ms + 1.0)  # nano, but slow
    mixed = at_latency([poor, *fixed], 21.0, bench)
    assert mixed.name == "small | large"
    assert mixed.mean_ms == pytest.approx(21.0, abs=0.5 * 30 / 60 + 1e-9)


def test_the_latency_is_met_where_two_routings_differ_in_a_few_frames() -> None:
    bench = bench_of(replay_of([20]))
    latency = np.where(np.arange(20) % 2 == 0, 10.0, 30.0)
    cheap = Routing("cheap", np.zeros(20, int), latency)
    # Four frames are better and dearer: by 4, 8, 12 and 16 ms, and one of them cheaper by 6.
    more = np.zeros(20)
    more[[1, 4, 9, 16, 18]] = [4.0, 8.0, -6.0, 12.0, 16.0]
    dear = Routing("dear", np.where(more != 0, 2, 0), latency + more)
    assert (cheap.mean_ms, dear.mean_ms) == (20.0, 20.0 + 34 / 20)
    for seed in range(50):
        mixed = at_latency([cheap, dear], 20.8, bench, seed)
        assert mixed.mean_ms == pytest.approx(20.8, abs=16 / 20 / 2 + 1e-9)
        passed = mixed.choice != cheap.choice
        np.testing.assert_array_equal(mixed.latency_ms, latency + more * passed)
    orders = {tuple(at_latency([cheap, dear], 20.8, bench, seed).choice) for seed in range(50)}
    assert len(orders) > 5


def test_beyond_its_ends_a_curve_answers_with_its_last_routing() -> None:
    bench = bench_of(replay_of([9]))
    fixed = list(fixed_rungs(bench).values())
    assert at_latency(fixed, 1.0, bench) is fixed[0]
    assert at_latency(fixed, 10.0, bench) is fixed[0]
    assert at_latency(fixed, 99.0, bench) is fixed[2]


def test_edge_density_by_hand() -> None:
    replay = replay_of([4])
    replay.frames[:, FRAME_FEATURES - 4 :] = np.array([0.1, 0.2, 0.3, 0.4])[:, None]
    family = edge_density([-INF, 0.15, 0.35, INF], extra_ms=0.5)(bench_of(replay))
    by_name = {routing.name: routing for routing in family}
    assert len(family) == 10  # pairs of four thresholds, low <= high
    chosen = by_name["edges > 0.150, 0.350"]
    assert chosen.choice.tolist() == [0, 1, 1, 2]
    assert chosen.latency_ms.tolist() == [10.5, 20.5, 20.5, 50.5]
    assert by_name["edges > inf, inf"].choice.tolist() == [0, 0, 0, 0]
    assert by_name["edges > -inf, -inf"].choice.tolist() == [2, 2, 2, 2]
    assert by_name["edges > -inf, inf"].choice.tolist() == [1, 1, 1, 1]


def test_object_count_looks_back_in_closed_loop() -> None:
    replay = replay_of([4])
    # Large sees much, the others little: after large comes large, after small comes nano.
    replay.looks[:, :, COUNT] = np.array([0.5, 0.1, 0.9])
    family = previous_look("count", "count_25", [0.3, 0.7])(bench_of(replay))
    chosen = {routing.name: routing for routing in family}["count > 0.30, 0.70"]
    assert chosen.choice.tolist() == [1, 0, 1, 0]  # small at first; nano saw 0.5, so small
    assert chosen.latency_ms.tolist() == [20, 10, 20, 10]


def test_small_objects_ask_for_a_heavier_rung() -> None:
    replay = replay_of([4])
    replay.looks[:, :, LOOK_NAMES.index("size_mean")] = np.array([0.5, 0.1, 0.9])
    family = previous_look("-size", "size_mean", [-0.7, -0.3], -1)(bench_of(replay))
    chosen = {routing.name: routing for routing in family}["-size > -0.70, -0.30"]
    # Small at first; it saw 0.1, so large; that saw 0.9, so nano; that saw 0.5, so small.
    assert chosen.choice.tolist() == [1, 2, 0, 1]


def test_large_looks_again_where_nanos_answer_promises_most() -> None:
    replay = replay_of([4])
    replay.looks[:] = 0.0
    replay.looks[:, 0, COUNT] = [0.1, 0.9, 0.2, 0.8]
    replay.quality[:] = 0.5
    replay.quality[:, 2] += replay.looks[:, 0, COUNT]  # what large adds grows with the count
    bench = bench_of(replay)
    family = oric(bench)(bench)
    assert [set(r.choice.tolist()) for r in (family[0], family[-1])] == [{2}, {0}]
    half = next(r for r in family if (r.choice == 2).sum() == 2)
    assert half.choice.tolist() == [0, 2, 0, 2]
    assert half.latency_ms.tolist() == [10, 10 + 50, 10, 10 + 50]


def test_each_group_of_counts_has_the_rung_that_pays() -> None:
    replay = replay_of([40])
    crowded = np.arange(40) % 2 == 0  # after a crowded frame large is worth most, else nano
    replay.looks[:, :, COUNT] = np.where(crowded, 0.9, 0.1)[:, None]
    after = np.roll(crowded, 1)
    replay.quality[:] = np.where(after[:, None], (0.1, 0.2, 0.9), (0.5, 0.5, 0.5))
    bench = bench_of(replay)
    cheap, dear = ecore(bench)(bench)[0], ecore(bench)(bench)[-1]
    assert cheap.choice.tolist() == [1] + [2, 0] * 19 + [2]
    assert set(dear.choice[1:].tolist()) == {0}


def test_a_cascade_pays_for_every_look() -> None:
    replay = replay_of([3])
    replay.looks[:, 0, LOOK_NAMES.index("doubt")] = [0.1, 0.5, 0.9]
    family = cascade([0.3, 0.7])(bench_of(replay))
    chosen = {routing.name: routing for routing in family}["doubt > 0.30, 0.70"]
    assert chosen.choice.tolist() == [0, 1, 2]
    assert chosen.latency_ms.tolist() == [10, 10 + 20, 10 + 50]


def test_reusing_the_previous_answer_is_right_only_where_nothing_moved() -> None:
    bench = bench_of(replay_of([4, 3]))
    by_name = {routing.name: routing for routing in previous_frame(bench)}
    assert list(by_name) == [f"every {period}" for period in REUSE_PERIODS]
    every = by_name["every 1"]
    assert every.latency_ms.tolist() == [50.0] * 7
    assert bench.accuracy(every) == 1.0
    second = by_name["every 2"]
    assert second.shares() == {"nano": 0, "small": 0, "large": 4 / 7}  # the rest is reused
    # Looks at positions 0 and 2 of each clip; a clip never reuses another one's answer.
    assert second.latency_ms.tolist() == [50, 0, 50, 0, 50, 0, 50]
    # Frames 0, 2, 4 and 6 are right; 1, 3 and 5 have the box where it was a frame ago.
    matched = bench.matched
    rows = matched.rungs == 3 + REUSE_PERIODS.index(2)
    hit = {
        int(f): bool(h) for f, h in zip(matched.frames[rows], matched.hits[rows, 0], strict=True)
    }
    assert hit == {0: True, 1: False, 2: True, 3: False, 4: True, 5: False, 6: True}


def test_the_labels_at_their_operating_point() -> None:
    # Reward at weight w: 0.1 - 0.2 w, 0.2 - 0.4 w, 0.3 - w.
    bench = bench_of(replay_of([3]))
    routings = oracle(bench, [0.01, 0.3, 2.0])
    assert [set(routing.choice.tolist()) for routing in routings] == [{2}, {1}, {0}]


def test_knobs_are_set_where_it_may_be_learned_and_judged_elsewhere() -> None:
    whole = learnable_replay(clips=10, frames=6)
    learn, judge = (bench_of_part(whole, *names) for names in (("train", "validation"), ("test",)))
    known = families(learn, observe_ms=0.5)
    assert list(known) == [
        "edge-density",
        "object-count",
        "cascade",
        "previous-frame",
        "oric",
        "tod",
        "ecore",
        "rams",
    ]
    for family in known.values():
        tried, kept = family(learn), tuned(family, learn, judge)
        frontier = Frontier.of((r.mean_ms, learn.accuracy(r)) for r in tried)
        on_it = [r.name for r in tried if learn.accuracy(r) >= frontier.at(r.mean_ms) - 1e-9]
        assert [routing.name for routing in kept.routings] == on_it
        assert all(len(routing.choice) == len(judge.replay) for routing in kept.routings)
        np.testing.assert_array_equal(kept.learned.latency, frontier.latency)


def bench_of_part(whole: Replay, *names: str) -> Bench:
    part = whole.part(*names)
    count = len(whole)
    data = data_of(count, [(frame, BOX, 1, 0) for frame in range(count)])
    found = [
        detections_of(
            count, [(f, BOX, 0.5, 1) for f in range(count) if f % 3 <= rung], LADDER[rung]
        )
        for rung in range(3)
    ]
    return Bench.build(part, data, found)


def test_a_bench_matches_the_frames_of_its_part_in_the_replays_order() -> None:
    bench = bench_of_part(learnable_replay(clips=10, frames=6), "test")
    assert bench.matched.truths.shape[0] == len(bench.replay) == 12
    ids = [index - 1 for index in bench.replay.image_ids.tolist()]
    nano = bench.matched.frames[bench.matched.rungs == 0]
    assert [ids[frame] % 3 for frame in nano] == [0] * len(nano)
    assert sorted(nano.tolist()) == [row for row, index in enumerate(ids) if index % 3 == 0]


def test_matching_again_gives_what_the_bench_has() -> None:
    replay = replay_of([5])
    bench = bench_of(replay)
    count = len(replay)
    places = [BOX if frame % 2 == 0 else FAR for frame in range(count)]
    data = data_of(count, [(frame, place, 1, 0) for frame, place in enumerate(places)])
    large = detections_of(count, [(f, place, 0.5, 1) for f, place in enumerate(places)], "large")
    alone = match_detections(data, [large], CLASSES)
    routing = Routing("", np.full(count, 2), np.ones(count))
    assert bench.accuracy(routing) == alone.mean_average_precision(0)
