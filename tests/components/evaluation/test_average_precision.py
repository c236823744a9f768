from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from replay_samples import CATEGORIES, CLASSES, Row, data_of, detections_of

from components.data.dataset import Dataset, dataset_to_coco
from components.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MatchedDetections,
    match_detections,
)


def random_set(
    seed: int, frames: int = 40, *, rounded: bool = False, rungs: int = 1
) -> tuple[Dataset, list[Any]]:
    """Objects, a sixth of them crowds, and jittered, doubled and misnamed detections of them."""
    rng = np.random.default_rng(seed)
    objects: list[tuple[int, list[float], int, int]] = []
    rows: list[list[Row]] = [[] for _ in range(rungs)]
    for frame in range(frames):
        for _ in range(rng.integers(0, 8)):
            box = np.array([*rng.uniform(0, 300, 2), *rng.uniform(5, 170, 2)])
            box = box.round() if rounded else box
            category = int(rng.choice(CATEGORIES))
            objects.append((frame, box.tolist(), category, int(rng.random() < 0.16)))
            for rung in range(rungs):
                for _ in range(rng.integers(0, 3)):
                    moved = box + rng.normal(0, 0.08, 4) * np.tile(box[2:], 2)
                    moved[2:] = np.maximum(moved[2:], 1)
                    score = round(rng.random(), 1) if rounded else rng.random()
                    named = int(rng.choice(CATEGORIES)) if rng.random() < 0.1 else category
                    moved = moved.round() if rounded else moved
                    rows[rung].append((frame, moved.tolist(), score, named))
    return data_of(frames, objects), [detections_of(frames, found) for found in rows]


def cocos_figure(data: Dataset, found: Sequence[Any], choice: np.ndarray) -> float:
    """MAP50-95 of the routed detections by faster-coco-eval."""
    results = []
    for frame, rung in enumerate(choice):
        rows = found[rung]
        for row in range(rows.offsets[frame], rows.offsets[frame + 1]):
            x1, y1, x2, y2 = rows.boxes[row].astype(np.float64).tolist()
            results.append(
                {
                    "image_id": int(data.image_ids[frame]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "category_id": int(rows.category_ids[row]),
                    "score": float(rows.scores[row]),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(dataset_to_coco(data))
        judge = COCOeval_faster(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rounded", [False, True], ids=["exact", "ties"])
def test_equals_faster_coco_eval_with_crowds(seed: int, rounded: bool) -> None:
    data, found = random_set(seed, rounded=rounded)
    matched = match_detections(data, found, CLASSES)
    expected = cocos_figure(data, found, np.zeros(len(data), np.int64))
    assert 0.1 < expected < 0.9
    assert data.is_crowd.sum() > 5
    assert matched.mean_average_precision(0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_equals_faster_coco_eval_where_every_frame_takes_another_rung(seed: int) -> None:
    data, found = random_set(100 + seed, frames=60, rungs=3)
    choice = np.random.default_rng(seed).integers(0, 3, len(data))
    routed = match_detections(data, found, CLASSES).mean_average_precision(choice)
    assert routed == pytest.approx(cocos_figure(data, found, choice), abs=1e-12)
    fixed = [cocos_figure(data, found, np.full(len(data), rung)) for rung in range(3)]
    assert routed not in fixed


def test_only_the_hundred_best_of_a_category_count_per_frame() -> None:
    rng = np.random.default_rng(0)
    objects = [(0, [20.0 * (i % 30), 30.0 * (i // 30), 15.0, 20.0], 1, 0) for i in range(130)]
    rows = [(frame, box, float(rng.random()), 1) for frame, box, _, _ in objects]
    data, found = data_of(1, objects), [detections_of(1, rows)]
    matched = match_detections(data, found, CLASSES)
    assert len(matched.frames) == 100
    # All hundred hit, so precision is 1 up to the recall 100/130: points 0.00 to 0.76 of 101.
    assert matched.mean_average_precision(0) == pytest.approx(77 / 101)
    assert cocos_figure(data, found, np.zeros(1, np.int64)) == pytest.approx(77 / 101)


def worked_example() -> tuple[Dataset, list[Any]]:
    """Two frames, three persons; detections in falling score: hit, miss, hit (IoU 0.72)."""
    objects = [
        (0, [0, 0, 100, 100], 1, 0),
        (0, [200, 0, 100, 100], 1, 0),
        (1, [0, 0, 100, 100], 1, 0),
    ]
    rows = [
        (0, [0, 0, 100, 100], 0.9, 1),
        (1, [300, 300, 50, 50], 0.8, 1),
        (1, [0, 0, 100, 72], 0.7, 1),
    ]
    return data_of(2, objects), [detections_of(2, rows)]


def test_a_worked_example() -> None:
    data, found = worked_example()
    matched = match_detections(data, found, CLASSES)
    assert matched.hits.sum(axis=0).tolist() == [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]  # 0.72 >= 0.5..0.7
    # Up to 0.7: recall 1/3 at precision 1 (34 points: 0.00 to 0.33), then 2/3 at 2/3 (33 points:
    # 0.34 to 0.66). From 0.75: recall 1/3 at precision 1 only.
    low, high = (34 + 33 * 2 / 3) / 101, 34 / 101
    assert matched.mean_average_precision(0) == pytest.approx((low + high) / 2)
    # Without the second frame: one of two objects, found at precision 1: points 0.00 to 0.50.
    assert matched.mean_average_precision(0, np.array([1.0, 0.0])) == pytest.approx(51 / 101)
    # Leaving the second frame without detections: its object still counts.
    assert matched.mean_average_precision(np.array([0, -1])) == pytest.approx(34 / 101)
    assert matched.mean_average_precision(-1) == 0.0


def test_a_category_without_objects_does_not_count_and_none_at_all_is_nan() -> None:
    data, found = worked_example()
    matched = match_detections(data, found, CLASSES)
    assert matched.truths.sum(axis=0).tolist() == [3, 0, 0]
    assert np.isnan(matched.mean_average_precision(0, np.zeros(2)))


def test_a_detection_of_an_unknown_category_is_left_out() -> None:
    data, _ = worked_example()
    found = detections_of(2, [(0, [0, 0, 100, 100], 0.9, 77), (0, [0, 0, 100, 100], 0.5, 1)])
    matched = match_detections(data, [found], CLASSES)
    assert len(matched.frames) == 1
    assert matched.mean_average_precision(0) == pytest.approx(34 / 101)


def test_crowds_forgive_but_are_not_counted() -> None:
    objects = [(0, [0, 0, 100, 100], 1, 0), (0, [200, 200, 200, 200], 1, 1)]
    rows = [(0, [250, 250, 20, 20], 0.9, 1), (0, [0, 0, 100, 100], 0.8, 1)]
    matched = match_detections(data_of(1, objects), [detections_of(1, rows)], CLASSES)
    assert matched.truths[:, 0].tolist() == [1]
    assert matched.ignored[0].all() and not matched.hits[0].any()
    assert matched.mean_average_precision(0) == 1.0


def repeated(
    data: Dataset, found: Sequence[Any], counts: Sequence[int]
) -> tuple[Dataset, list[Any]]:
    """The data set with every frame as often as its count."""
    drawn = np.repeat(np.arange(len(data)), counts)
    objects = [
        (place, data.boxes[row].tolist(), int(data.category_ids[row]), int(data.is_crowd[row]))
        for place, frame in enumerate(drawn)
        for row in range(data.offsets[frame], data.offsets[frame + 1])
    ]
    copies = []
    for rows in found:
        listed = []
        for place, frame in enumerate(drawn):
            for row in range(rows.offsets[frame], rows.offsets[frame + 1]):
                x1, y1, x2, y2 = rows.boxes[row].tolist()
                score, category = float(rows.scores[row]), int(rows.category_ids[row])
                listed.append((place, [x1, y1, x2 - x1, y2 - y1], score, category))
        copies.append(detections_of(len(drawn), listed))
    return data_of(len(drawn), objects), copies


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_frames_that_occur_more_than_once(seed: int) -> None:
    data, found = random_set(200 + seed, rungs=2)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(data), np.full(len(data), 1 / len(data)))
    choice = rng.integers(0, 2, len(data))
    weighted = match_detections(data, found, CLASSES).mean_average_precision(
        choice, counts.astype(np.float64)
    )
    copied_data, copied = repeated(data, found, counts.tolist())
    copied_choice = np.repeat(choice, counts)
    written_out = match_detections(copied_data, copied, CLASSES)
    assert (counts == 0).any() and (counts > 1).any()
    assert weighted == pytest.approx(written_out.mean_average_precision(copied_choice), abs=1e-12)
    assert weighted == pytest.approx(cocos_figure(copied_data, copied, copied_choice), abs=1e-12)


def uninterpolated(matched: MatchedDetections, weights: np.ndarray) -> float:
    """MAP without COCO's envelope and recall points: 1/P sum v h A/n, detections weighted singly.

    The objects are all counted once, whatever the weights.
    """
    total = matched.truths.sum(axis=0)
    found = []
    for rows, objects in zip(matched.blocks, total, strict=True):
        if not objects:
            continue
        weight, hits = weights[rows], matched.hits[rows].astype(np.float64)
        for level in range(len(IOU_THRESHOLDS)):
            hit = hits[:, level]
            counted = (~matched.ignored[rows][:, level]).astype(np.float64)
            above = np.cumsum(weight * hit)
            seen = np.cumsum(weight * counted)
            terms = np.divide(weight * hit * above, seen, out=np.zeros_like(hit), where=seen > 0)
            found.append(terms.sum() / objects)
    return float(np.mean(found))


def test_contributions_are_the_derivative_of_the_uninterpolated_figure() -> None:
    data, found = random_set(7, frames=15, rungs=3)
    matched = match_detections(data, found, CLASSES)
    share = np.full(len(matched.frames), 1 / 3)
    step, expected = 1e-5, np.zeros((len(data), 3))
    for frame in range(len(data)):
        for rung in range(3):
            moved = step * ((matched.frames == frame) & (matched.rungs == rung))
            slope = uninterpolated(matched, share + moved) - uninterpolated(matched, share - moved)
            expected[frame, rung] = slope / (2 * step)
    contributions = matched.contributions()
    assert contributions.dtype == np.float64
    np.testing.assert_allclose(contributions, expected * len(data), atol=1e-6)
    # Euler: the figure is homogeneous of degree 1 in the weights, so the parts sum to the whole.
    whole = uninterpolated(matched, share)
    assert contributions.sum() / len(data) / 3 == pytest.approx(whole, abs=1e-9)


def test_contributions_foretell_what_a_swap_does_to_the_set() -> None:
    """Leave-one-out: one frame goes from the first rung to the second, all others stay."""
    data, found = random_set(11, frames=60, rungs=2)
    matched = match_detections(data, found, CLASSES)
    contributions = matched.contributions()
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, len(data))
    stays = matched.mean_average_precision(base)
    real, predicted = [], []
    for frame in range(len(data)):
        other = base.copy()
        other[frame] = 1 - base[frame]
        real.append(matched.mean_average_precision(other) - stays)
        row = contributions[frame]
        predicted.append((row[other[frame]] - row[base[frame]]) / len(data))
    assert np.corrcoef(real, predicted)[0, 1] > 0.85
    slope = float(np.dot(real, predicted) / np.dot(predicted, predicted))
    assert 0.6 < slope < 1.5  # in size too, not only in order


def test_a_frame_with_nothing_to_find_and_nothing_found_contributes_nothing() -> None:
    data, found = worked_example()
    empty = data_of(3, [(0, [0, 0, 100, 100], 1, 0)])
    rows = detections_of(3, [(0, [0, 0, 100, 100], 0.9, 1), (1, [5, 5, 9, 9], 0.95, 1)])
    contributions = match_detections(empty, [rows], CLASSES).contributions()
    # The hit at precision 1/2 gains (A/n = 1/2) + 1/2 - 1/4; the false alarm above it costs 1/4.
    np.testing.assert_allclose(contributions[:, 0], [3 * 0.75, -3 * 0.25, 0.0])


def test_a_pseudo_label_asks_for_half_an_overlap_only() -> None:
    """An overlap of 0.62 is found at 3 of 10 thresholds; of a pseudo label at all."""
    data = data_of(2, [(frame, (0, 0, 10, 10), CATEGORIES[0], 0) for frame in range(2)])
    second = replace(data.images[1], pseudo=True)
    data = replace(data, images=(data.images[0], second))
    rows = [(frame, (0, 0, 10, 6.2), 0.9 - frame / 10, CATEGORIES[0]) for frame in range(2)]
    found = match_detections(data, [detections_of(2, rows)], CLASSES)
    assert found.hits.sum(axis=1).tolist() == [3, 10]
    assert dataset_to_coco(data)["images"][1]["attributes"]["pseudo"] is True
