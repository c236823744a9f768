"""Two samples held against each other, one figure at a time, with a p-value each.

========================  =====================================================================
figure                    test
========================  =====================================================================
brightness, edge density, two-sample Kolmogorov-Smirnov: it sees any change of a distribution,
blur, noise, objects,     and asks for no bins (J. Hodges, Arkiv foer Matematik 3, 1958). On ties,
confidence                as counts have them, it errs to the safe side.
classes, rungs            Pearson's chi-square, its p-value by relabelling whole frames: objects
                          of a frame are no independent draws, which the chi-square distribution
                          would take them for (J. Rao and A. Scott, JASA 76, 1981).
embedding                 maximum mean discrepancy, see ``components.drift.discrepancy``
========================  =====================================================================

Every test gets ``alpha`` over their number (Bonferroni), so that all of them together raise a
false alarm with a chance of ``alpha`` at most, however they depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]  # it has no types

from components.drift.config import DriftConfig
from components.drift.discrepancy import discrepancy
from components.drift.frames import Frames
from components.drift.relabel import permutation_p, relabellings
from components.drift.thinning import thinned
from feature_transformer.frame_statistics import STATISTICS
from inference_graph.contract import LADDER

Kind = Literal["inputs", "outputs"]
_UNITS = {"blur": "", "noise": " grey levels", "objects": " a frame"}


@dataclass(frozen=True)
class FigureComparison:
    """One figure of the window against the reference's.

    Attributes:
        name: the figure.
        kind: "inputs" or "outputs".
        method: the test that ran, and on what.
        statistic: the test's; NaN where it did not run.
        p_value: chance of a statistic as far out where nothing changed; NaN likewise.
        level: the p-value at or below which it counts.
        reference_frames: independent frames of the reference it read.
        window_frames: likewise of the window.
        change: what changed, in words with numbers; or why the test did not run.
    """

    name: str
    kind: Kind
    method: str
    statistic: float
    p_value: float
    level: float
    reference_frames: int
    window_frames: int
    change: str

    @property
    def ran(self) -> bool:
        """Whether there was enough to compare."""
        return self.p_value == self.p_value

    @property
    def drifted(self) -> bool:
        """Whether the figure differs from the reference's."""
        return self.ran and self.p_value <= self.level


def compare(
    reference: Frames,
    window: Frames,
    spacing: tuple[int, int],
    config: DriftConfig,
    class_names: Sequence[str] = (),
    same_policy: bool = True,
) -> tuple[FigureComparison, ...]:
    """Compare inputs and outputs of two sets of frames.

    Args:
        reference: what is usual; outputs are read of the held-out frames only.
        window: what is examined.
        spacing: frames of a stream between two independent ones, of reference and window.
        config: how to compare.
        class_names: names of the classes by label, for words.
        same_policy: whether both were routed by one policy at one operating point; otherwise the
            routing shares are not compared.

    Returns:
        One comparison per figure, those that did not run included; their levels are set.
    """
    held_out = reference.take(reference.held_out) if not reference.held_out.all() else reference
    found: list[FigureComparison] = []

    def ask(
        name: str,
        kind: Kind,
        values: Callable[[Frames], NDArray],
        test: Callable[[str, Kind, NDArray, NDArray], FigureComparison],
    ) -> None:
        sides = []
        for frames, apart in zip(
            (reference if kind == "inputs" else held_out, window), spacing, strict=True
        ):
            given = values(frames)
            known = np.isfinite(given if given.ndim == 1 else given.sum(axis=1))
            if kind == "outputs":
                known &= frames.answered
                # A stream's first frame has no context: how many there are depends on nothing
                # but the length of the streams.
                known &= (frames.place > 0) | (frames.place == 0).all()
            sides.append(given[thinned(frames, known, apart, config.most, config.seed)])
        if min(len(side) for side in sides) < config.least:
            found.append(_not_run(name, kind, sides, f"fewer than {config.least} on a side"))
        else:
            found.append(test(name, kind, *sides))

    def chi_square(
        names: Sequence[str],
    ) -> Callable[[str, Kind, NDArray, NDArray], FigureComparison]:
        return lambda name, kind, old, new: _chi_square(name, kind, old, new, names, config)

    def statistic(index: int) -> Callable[[Frames], NDArray]:
        return lambda frames: frames.statistics[:, index]

    for index, name in enumerate(STATISTICS):
        ask(name, "inputs", statistic(index), _kolmogorov_smirnov)
    ask(
        "embedding",
        "inputs",
        lambda frames: frames.embedding,
        lambda name, kind, old, new: _discrepancy(name, kind, old, new, config),
    )
    ask("objects", "outputs", lambda frames: frames.objects, _kolmogorov_smirnov)
    ask("confidence", "outputs", lambda frames: frames.confidence, _kolmogorov_smirnov)
    width = max(reference.classes.shape[1], window.classes.shape[1])
    names = [*class_names, *(f"class {n}" for n in range(len(class_names), width))]
    ask("classes", "outputs", lambda frames: _padded(frames.classes, width), chi_square(names))
    if same_policy:
        ask("rungs", "outputs", lambda frames: np.eye(len(LADDER))[frames.rung], chi_square(LADDER))
    else:
        why = "another policy or operating point than the reference's"
        found.append(_not_run("rungs", "outputs", ((), ()), why))
    return levelled(found, config.alpha)


def levelled(
    found: Sequence[FigureComparison], alpha: float, others: int = 1
) -> tuple[FigureComparison, ...]:
    """Give each test that ran its share of ``alpha``.

    Args:
        found: the comparisons.
        alpha: chance of a false alarm of all together.
        others: tests besides them that share it; that of harm is one.
    """
    level = alpha / (sum(one.ran for one in found) + others)
    return tuple(replace(one, level=level) for one in found)


def _kolmogorov_smirnov(
    name: str, kind: Kind, old: NDArray[np.float64], new: NDArray[np.float64]
) -> FigureComparison:
    result = stats.ks_2samp(old, new, method="auto")
    before, after, unit = np.median(old), np.median(new), _UNITS.get(name, "")
    return FigureComparison(
        name,
        kind,
        "Kolmogorov-Smirnov",
        float(result.statistic),
        float(result.pvalue),
        0.0,
        len(old),
        len(new),
        f"median {before:.3g} became {after:.3g}{unit}",
    )


def _discrepancy(
    name: str, kind: Kind, old: NDArray, new: NDArray, config: DriftConfig
) -> FigureComparison:
    found = discrepancy(old, new, config)
    return FigureComparison(
        name,
        kind,
        found.method,
        found.statistic,
        found.p_value,
        0.0,
        len(old),
        len(new),
        f"squared discrepancy {found.statistic:.4f}, "
        f"{found.usual:.4f} at most in 19 of 20 relabellings",
    )


def _chi_square(
    name: str, kind: Kind, old: NDArray, new: NDArray, names: Sequence[str], config: DriftConfig
) -> FigureComparison:
    """Counts float64 [n, C] per frame; the frames are relabelled, not the objects in them."""
    counts = np.concatenate([old, new]).astype(np.float64)
    seen = counts.sum(axis=0) > 0
    first, total = len(old), counts.sum(axis=0)
    if seen.sum() < 2:
        return _not_run(name, kind, (old, new), "there is only one kind")
    labels = relabellings(first, len(counts), config.permutations, config.seed)
    statistic = _pearson(labels @ counts[:, seen], total[seen])
    before, after = (side.sum(axis=0) / max(side.sum(), 1.0) for side in (old, new))
    most = int(np.argmax(np.abs(after - before)))
    return FigureComparison(
        name,
        kind,
        "chi-square, frames relabelled",
        float(statistic[0]),
        permutation_p(statistic),
        0.0,
        len(old),
        len(new),
        f"{names[most]}: {before[most]:.1%} became {after[most]:.1%}",
    )


def _pearson(first: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's statistic of 2 x C tables, float64 [P]; ``first`` is their upper row, [P, C]."""
    whole = total.sum()
    found = np.zeros(len(first))
    for row in (first, total - first):
        expected = row.sum(axis=1, keepdims=True) * total / whole
        found += np.divide(
            (row - expected) ** 2, expected, out=np.zeros_like(row), where=expected > 0
        ).sum(axis=1)
    return found


def _not_run(name: str, kind: Kind, sides: Sequence[Sized], why: str) -> FigureComparison:
    nan = float("nan")
    counts = [len(side) for side in sides]
    return FigureComparison(name, kind, "not run", nan, nan, 0.0, counts[0], counts[1], why)


def _padded(classes: NDArray[np.uint8], width: int) -> NDArray[np.float64]:
    return np.pad(classes, ((0, 0), (0, width - classes.shape[1]))).astype(np.float64)
