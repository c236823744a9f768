from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from test_drift_thinning import frames_with

from components.drift.comparison import FigureComparison, compare, levelled
from components.drift.config import DriftConfig
from components.drift.discrepancy import discrepancy
from components.drift.frames import Frames
from components.drift.relabel import permutation_p, relabellings
from foundation.errors import ConfigurationError

NUMPY = DriftConfig(embedding="numpy", permutations=999)


def drawn(count: int, seed: int, **shift: float) -> Frames:
    """Independent frames, each a stream of its own."""
    rng = np.random.default_rng(seed)
    frames = frames_with(list(range(count)))
    kinds = rng.integers(0, 2, count)
    objects = rng.poisson(4, count) + int(shift.get("objects", 0))
    return dataclasses.replace(
        frames,
        statistics=rng.normal(size=(count, 4)) + shift.get("statistics", 0.0),
        embedding=(rng.normal(size=(count, 68)) + shift.get("embedding", 0.0)).astype(np.float32),
        objects=objects.astype(np.float64),
        confidence=rng.uniform(0.3, 0.9, count),
        # Every object of a frame is of one kind: they are no independent draws.
        classes=np.stack([objects * (kinds == 0), objects * (kinds == 1)], axis=1).astype(np.uint8),
        rung=rng.choice(3, count, p=(0.3, 0.6, 0.1)),
    )


def by_name(found: tuple[FigureComparison, ...]) -> dict[str, FigureComparison]:
    return {one.name: one for one in found}


def test_every_figure_is_compared_and_the_levels_add_up_to_alpha() -> None:
    found = compare(drawn(200, 1), drawn(80, 2), (1, 1), NUMPY, ("person", "car"))
    names = [
        "brightness",
        "edge_density",
        "blur",
        "noise",
        "embedding",
        "objects",
        "confidence",
        "classes",
        "rungs",
    ]
    assert [one.name for one in found] == names
    assert not any(one.drifted for one in found)
    # Nine tests here, and that of harm, share alpha.
    assert all(one.level == pytest.approx(NUMPY.alpha / 10) for one in found)
    assert {one.kind for one in found[:5]} == {"inputs"}


def test_what_moved_is_named_and_nothing_else() -> None:
    found = compare(drawn(200, 1), drawn(80, 2, objects=3), (1, 1), NUMPY, ("person", "car"))
    assert [one.name for one in found if one.drifted] == ["objects"]
    old, new = drawn(200, 1).objects, drawn(80, 2, objects=3).objects
    expected = stats.ks_2samp(old, new)
    assert by_name(found)["objects"].statistic == pytest.approx(expected.statistic)
    assert by_name(found)["objects"].p_value == pytest.approx(expected.pvalue)
    assert "median 4 became 7" in by_name(found)["objects"].change


def test_objects_of_a_frame_are_no_independent_draws() -> None:
    """Pearson's own p-value would take each object for a witness and find drift too often."""
    naive, ours = [], []
    for seed in range(60):
        old, new = drawn(60, 2 * seed), drawn(60, 2 * seed + 1)
        table = [frames.classes.sum(axis=0) for frames in (old, new)]
        naive.append(stats.chi2_contingency(table, correction=False).pvalue)
        found = by_name(compare(old, new, (1, 1), DriftConfig(embedding="numpy", permutations=199)))
        ours.append(found["classes"].p_value)
        statistic = stats.chi2_contingency(table, correction=False).statistic
        assert found["classes"].statistic == pytest.approx(statistic)
    assert np.mean(np.array(naive) < 0.05) > 0.2
    assert np.mean(np.array(ours) < 0.05) < 0.15


def test_permutation_p_values_are_exact() -> None:
    """Three against two: of ten labellings one is as extreme as the observed one."""
    labels = relabellings(3, 5, 20_000, seed=1)
    assert labels.shape == (20_001, 5)
    assert (labels.sum(axis=1) == 3).all()
    assert labels[0].tolist() == [1, 1, 1, 0, 0]
    found = labels @ np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert permutation_p(found) == pytest.approx(0.1, abs=0.01)
    assert permutation_p(np.array([1.0, 0.0, 0.0, 0.0])) == 0.25  # never zero


def test_too_few_frames_are_reported_and_not_tested() -> None:
    found = compare(drawn(200, 1), drawn(9, 2), (1, 1), NUMPY)
    assert not any(one.ran for one in found)
    assert found[0].change == "fewer than 10 on a side"
    assert found[0].window_frames == 9


def test_routing_of_another_policy_is_not_compared() -> None:
    found = by_name(compare(drawn(200, 1), drawn(80, 2), (1, 1), NUMPY, same_policy=False))
    assert not found["rungs"].ran
    assert found["classes"].level == pytest.approx(NUMPY.alpha / 9)


def test_one_kind_only_has_no_mix() -> None:
    def of_one_rung(frames: Frames) -> Frames:
        return dataclasses.replace(frames, rung=np.zeros(len(frames), np.int64))

    found = compare(of_one_rung(drawn(60, 1)), of_one_rung(drawn(60, 2)), (1, 1), NUMPY)
    assert by_name(found)["rungs"].change == "there is only one kind"


def test_levels_are_shared_by_those_that_ran() -> None:
    ran = FigureComparison("a", "inputs", "", 0.1, 0.004, 0.0, 30, 30, "")
    idle = dataclasses.replace(ran, p_value=float("nan"))
    found = levelled([ran, ran, idle], 0.012)
    assert [one.level for one in found] == pytest.approx([0.004] * 3)
    assert [one.drifted for one in found] == [True, True, False]


def test_the_discrepancy_is_the_textbooks() -> None:
    rng = np.random.default_rng(5)
    old = rng.normal(size=(12, 3)).astype(np.float32)
    new = rng.normal(0.5, 1, size=(9, 3)).astype(np.float32)
    found = discrepancy(old, new, DriftConfig(embedding="numpy", permutations=100))
    both = np.concatenate([old, new]).astype(np.float64)
    both = (both - both.mean(axis=0)) / both.std(axis=0)
    squared = ((both[:, None] - both[None]) ** 2).sum(axis=2)
    median = np.median([squared[i, j] for i in range(21) for j in range(i + 1, 21)])
    kernel = np.exp(-squared / median)  # 2 sigma^2 is the median
    expected = (
        np.mean([kernel[i, j] for i in range(12) for j in range(12) if i != j])
        + np.mean([kernel[i, j] for i in range(12, 21) for j in range(12, 21) if i != j])
        - 2 * np.mean([kernel[i, j] for i in range(12) for j in range(12, 21)])
    )
    assert found.statistic == pytest.approx(expected)
    assert found.method == "MMD by NumPy"


def test_alibi_detect_finds_the_same_figure() -> None:
    pytest.importorskip("alibi_detect")
    rng = np.random.default_rng(6)
    old = rng.normal(size=(60, 68)).astype(np.float32)
    new = rng.normal(0.4, 1, size=(40, 68)).astype(np.float32)
    ours = discrepancy(old, new, DriftConfig(embedding="numpy", permutations=200))
    theirs = discrepancy(old, new, DriftConfig(embedding="alibi-detect", permutations=200))
    assert theirs.method == "MMD by alibi-detect"
    assert theirs.statistic == pytest.approx(ours.statistic, rel=1e-3)
    assert theirs.p_value == ours.p_value == pytest.approx(1 / 201)


def test_without_the_extra_auto_goes_on_and_the_wish_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("components.drift.discrepancy.has_alibi_detect", lambda: False)
    old, new = np.zeros((30, 68), np.float32), np.ones((30, 68), np.float32)
    assert discrepancy(old, new, DriftConfig(permutations=100)).method == "MMD by NumPy"
    with pytest.raises(ConfigurationError, match=r"pip install 'gearshift\[drift\]'"):
        discrepancy(old, new, DriftConfig(embedding="alibi-detect"))
