from __future__ import annotations

import numpy as np
import pytest

from inference_graph.contract import Detections
from inference_graph.detector.suppression import candidates, suppress


def head(*rows: list[float]) -> np.ndarray:
    """Raw output float32 [4 + classes, anchors] from one row per anchor."""
    return np.array(rows, np.float32).T


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int32),
    )


def test_candidates_by_hand() -> None:
    output = head([10, 20, 4, 6, 0.2, 0.1], [50, 50, 10, 10, 0.3, 0.9], [5, 5, 2, 2, 0.01, 0.05])
    seen = candidates(output, 0.1)
    np.testing.assert_allclose(seen.boxes, [[45, 45, 55, 55], [8, 17, 12, 23]])
    np.testing.assert_allclose(seen.scores, [0.9, 0.2])
    assert seen.labels.tolist() == [1, 0]
    assert (seen.boxes.dtype, seen.scores.dtype, seen.labels.dtype) == (
        np.float32,
        np.float32,
        np.int32,
    )


def test_with_several_labels_an_anchor_counts_once_for_each() -> None:
    output = head([10, 20, 4, 6, 0.2, 0.1], [50, 50, 10, 10, 0.3, 0.9])
    seen = candidates(output, 0.15, multi_label=True)
    np.testing.assert_allclose(seen.scores, [0.9, 0.3, 0.2])
    assert seen.labels.tolist() == [1, 0, 0]
    np.testing.assert_allclose(seen.boxes[1], [45, 45, 55, 55])


def test_the_confidence_itself_is_not_enough() -> None:
    assert len(candidates(head([1, 1, 1, 1, 0.5]), 0.5)) == 0
    assert len(candidates(head([1, 1, 1, 1, 0.5]), 0.4999)) == 1


def test_only_the_best_enter() -> None:
    output = head(*([i, 0, 1, 1, 0.1 + i / 100] for i in range(20)))
    assert candidates(output, 0, limit=3).boxes[:, 0].tolist() == [18.5, 17.5, 16.5]


def test_suppression_by_hand() -> None:
    # A and B share 80 of 120 pixels (2/3), A and C 50 of 150 (1/3), B and C 70 of 130 (0.54).
    boxes = [[0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10]]
    three = found(boxes, [0.9, 0.8, 0.7], [0, 0, 0])
    assert suppress(three, 0.7, 10).tolist() == [0, 1, 2]
    assert suppress(three, 0.6, 10).tolist() == [0, 2]  # B falls to A and spares C
    assert suppress(three, 0.3, 10).tolist() == [0]


def test_the_threshold_itself_does_not_suppress() -> None:
    # Half of each is shared: 50 of 150, which is 1/3; 0.5 is exact: 10x10 and its half.
    pair = found([[0, 0, 10, 10], [0, 0, 10, 5]], [0.9, 0.8], [0, 0])
    assert suppress(pair, 0.5, 10).tolist() == [0, 1]
    assert suppress(pair, 0.4999, 10).tolist() == [0]


def test_classes_do_not_suppress_each_other() -> None:
    pair = found([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [0, 1])
    assert suppress(pair, 0.5, 10).tolist() == [0, 1]


def test_the_limit() -> None:
    many = found([[i * 20, 0, i * 20 + 10, 10] for i in range(300)], [0.5] * 300, [0] * 300)
    assert suppress(many, 0.5, 7).tolist() == list(range(7))
    assert len(suppress(many, 0.5, 1000)) == 300


def test_nothing() -> None:
    assert suppress(found([], [], []), 0.5, 10).tolist() == []
    assert len(candidates(np.zeros((6, 0), np.float32), 0.1)) == 0
    assert len(candidates(np.zeros((6, 50), np.float32), 0.1)) == 0


def test_empty_boxes_suppress_nothing() -> None:
    assert suppress(found([[5, 5, 5, 5]] * 3, [0.9, 0.8, 0.7], [0] * 3), 0.5, 9).tolist() == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize("count", [5, 127, 128, 129, 700])
@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_equal_to_torchvision(count: int, iou: float) -> None:
    import torch
    from torchvision.ops import batched_nms

    generator = np.random.default_rng(count)
    corners = generator.uniform(0, 60, (count, 2))
    boxes = np.concatenate((corners, corners + generator.uniform(5, 40, (count, 2))), axis=1)
    scores = np.sort(generator.uniform(0, 1, count))[::-1]
    labels = generator.integers(0, 3, count)
    seen = found(boxes.tolist(), scores.tolist(), labels.tolist())
    expected = batched_nms(
        torch.tensor(seen.boxes).double(),
        torch.tensor(seen.scores).double(),
        torch.tensor(seen.labels),
        iou,
    )
    assert suppress(seen, iou, count).tolist() == expected.tolist()


@pytest.mark.parametrize("multi_label", [False, True])
def test_equal_to_ultralytics_from_the_raw_output(multi_label: bool) -> None:
    import torch
    from ultralytics.utils.nms import non_max_suppression

    generator = np.random.default_rng(0)
    output = np.concatenate(
        (
            generator.uniform(20, 230, (2, 500)),
            generator.uniform(5, 80, (2, 500)),
            generator.beta(0.2, 3, (4, 500)),
        )
    ).astype(np.float32)
    expected = non_max_suppression(
        torch.tensor(output[None].copy()), 0.01, 0.6, max_det=300, multi_label=multi_label
    )[0].numpy()
    seen = candidates(output, 0.01, multi_label, limit=30_000)
    kept = suppress(seen, 0.6, 300)
    np.testing.assert_allclose(seen.boxes[kept], expected[:, :4], atol=1e-4)
    np.testing.assert_array_equal(seen.scores[kept], expected[:, 4])
    np.testing.assert_array_equal(seen.labels[kept], expected[:, 5])
