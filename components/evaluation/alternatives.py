"""Every honest alternative to a learned policy, each with its own knob.

An alternative is tuned as the policy is: its knob is set on the frames to learn from (the settings
on the accuracy-latency frontier there are kept) and judged on the held-out ones. It routes in
closed loop, and pays for what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes
from components.data.dataset import Dataset
from components.evaluation.frontier import Frontier
from components.policy.closed_loop import Step, looks_before, roll
from components.profiling.detections import RungDetections
from components.profiling.replay import Replay
from components.tasks import Task, task_named
from components.tasks.contract import Answers, ScoredAnswers
from feature_transformer.observation import FRAME_FEATURES, LOOK_NAMES
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER

REUSE_PERIODS = (1, 2, 3, 4, 5, 8)
"""Frames between two looks of the previous-frame alternative."""

_NANO, _SMALL, _LARGE = range(len(LADDER))
_COUNT = LOOK_NAMES.index("count_25")
_SIZE = LOOK_NAMES.index("size_mean")
_SCORE = LOOK_NAMES.index("score_mean")
_DOUBT = LOOK_NAMES.index("doubt")
_GROUPS = 5
_RIDGE = 1e-2
_KNOB_LEVELS = 11


@dataclass(frozen=True, eq=False)
class Routing:
    """One way to route all frames.

    Attributes:
        name: its knob's setting, for people.
        choice: int64 [N], the source of each frame's detections: a rung, or beyond the rungs a
            reuse of the heaviest rung's earlier answer (`Bench.matched`).
        latency_ms: float64 [N], all that the frame cost, looks that were thrown away included.
        answers: what each frame was answered with, where that is no source's raw detections.
    """

    name: str
    choice: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    answers: ScoredAnswers | None = None

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return float(self.latency_ms.mean())

    def shares(self) -> dict[str, float]:
        """Share of the frames that each rung looked at; the rest reuses an earlier answer."""
        return {rung: float(np.mean(self.choice == index)) for index, rung in enumerate(LADDER)}


@dataclass(frozen=True, eq=False)
class Bench:
    """One part of the replay with its matched detections: what routings are judged on.

    Attributes:
        replay: the frames.
        data: their objects, in the replay's order.
        found: what each rung saw on them, likewise.
        matched: detections of the rungs, then of the heaviest rung reused with each period.
    """

    replay: Replay
    data: Dataset
    found: Sequence[RungDetections]
    matched: ScoredAnswers

    @classmethod
    def build(
        cls,
        replay: Replay,
        data: Dataset,
        found: Sequence[RungDetections],
        periods: Sequence[int] = REUSE_PERIODS,
    ) -> Bench:
        """Match the rungs' detections, and those reused from earlier frames, to the truth."""
        ids = replay.image_ids.tolist()
        rungs, part = [rows.select(ids) for rows in found], data.subset(ids)
        reused = [_reuse(rungs[-1], replay, period) for period in periods]
        matched = task_named(data.task).score(part, [*rungs, *reused], found[0].classes)
        return cls(replay, part, rungs, matched)

    @property
    def task(self) -> Task:
        """What the frames are routed for."""
        return task_named(self.data.task)

    @property
    def classes(self) -> Classes:
        """Those of the rungs."""
        return self.found[0].classes

    def match(self, answers: Answers) -> ScoredAnswers:
        """Match answers that are no rung's own to the objects."""
        return self.task.score(self.data, [answers], self.classes)

    def refuse_without_objects(self, dataset: Path) -> None:
        """Raise InvalidInput where no object of the frames counts; ``dataset`` names them."""
        if not self.matched.truths.any():
            raise InvalidInput(
                f"{dataset}: no object of the held-out frames counts (crowds and categories that "
                "the ladder does not know never do); annotate more, and split again"
            )

    def accuracy(self, routing: Routing, weights: NDArray[np.float64] | None = None) -> float:
        """The task's accuracy of a routing, such as mAP50-95."""
        if routing.answers is not None:
            return routing.answers.accuracy(0, weights)
        return self.matched.accuracy(routing.choice, weights)

    def answers(self, routing: Routing) -> ScoredAnswers:
        """What a routing answers with, as one source."""
        return routing.answers or self.matched.chosen(routing.choice)

    def rung(self, name: str, choice: NDArray[np.int64], extra_ms: float = 0.0) -> Routing:
        """A routing that uses one rung per frame and pays ``extra_ms`` for deciding."""
        rows = np.arange(len(self.replay))
        return Routing(name, choice, self.replay.latency_ms[rows, choice] + np.float64(extra_ms))


def _reuse(rows: RungDetections, replay: Replay, period: int) -> RungDetections:
    """The detections each frame has when only every ``period``-th frame of a clip is looked at."""
    ids = replay.image_ids[np.arange(len(replay)) - _age(replay, period)]
    return replace(rows.select(ids.tolist()), image_ids=replay.image_ids)


def _age(replay: Replay, period: int) -> NDArray[np.int64]:
    """Frames since the last look, int64 [N], when every ``period``-th frame of a clip is one."""
    starts = np.repeat(replay.clip_bounds[:, 0], np.diff(replay.clip_bounds, axis=1)[:, 0])
    return (np.arange(len(replay)) - starts) % period


def fixed_rungs(bench: Bench) -> dict[str, Routing]:
    """Each rung alone, named ``always-<rung>``."""
    return {
        f"always-{rung}": bench.rung(rung, np.full(len(bench.replay), index))
        for index, rung in enumerate(LADDER)
    }


def random_mixes(bench: Bench, seed: int = 0) -> list[Routing]:
    """Each pair of rungs mixed at random in nine shares."""
    rng = np.random.default_rng(seed)
    found = []
    for low, high in ((_NANO, _SMALL), (_SMALL, _LARGE), (_NANO, _LARGE)):
        drawn = rng.permutation(len(bench.replay)) / len(bench.replay)
        for share in np.arange(1, 10) / 10:
            choice = np.where(drawn < share, high, low)
            found.append(bench.rung(f"{LADDER[low]}+{share:.0%} {LADDER[high]}", choice))
    return found


Family = Callable[[Bench], list[Routing]]


def _levels(values: NDArray[np.floating]) -> list[float]:
    """Thresholds at even quantiles, the open ends included."""
    inner = np.quantile(values, np.linspace(0.05, 0.95, _KNOB_LEVELS - 2))
    return [-np.inf, *np.unique(inner).tolist(), np.inf]


def _two_thresholds(levels: Sequence[float]) -> list[tuple[float, float]]:
    return [(low, high) for low in levels for high in levels if low <= high]


def edge_density(levels: Sequence[float], extra_ms: float) -> Family:
    """Rule: more edges, heavier rung; thresholds on the mean of the four edge densities."""

    def family(bench: Bench) -> list[Routing]:
        edges = bench.replay.frames[:, FRAME_FEATURES - 4 :].mean(axis=1)
        return [
            bench.rung(f"edges > {low:.3f}, {high:.3f}", _step(edges, low, high), extra_ms)
            for low, high in _two_thresholds(levels)
        ]

    return family


def previous_look(name: str, feature: str, levels: Sequence[float], sign: int = 1) -> Family:
    """Rule: the higher a feature of the previous look, the heavier the rung; small without a look.

    Args:
        name: of the feature in a setting's name.
        feature: of `LOOK_NAMES`.
        levels: thresholds, of the feature times ``sign``.
        sign: -1 where a lower feature asks for a heavier rung.
    """
    column = LOOK_NAMES.index(feature)

    def family(bench: Bench) -> list[Routing]:
        found = []
        for low, high in _two_thresholds(levels):

            def choose(step: Step, low: float = low, high: float = high) -> NDArray[np.int64]:
                values = sign * looks_before(bench.replay, step)[:, column]
                return np.where(step.before < 0, _SMALL, _step(values, low, high))

            found.append(bench.rung(f"{name} > {low:.2f}, {high:.2f}", roll(bench.replay, choose)))
        return found

    return family


def _step(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.int64]:
    return np.where(values > high, _LARGE, np.where(values > low, _SMALL, _NANO))


def cascade(levels: Sequence[float]) -> Family:
    """Nano first on every frame; where it is in doubt, a heavier rung looks again.

    Doubt is the look block's: the summed ``s (1 - s)`` of its scores. An escalated frame pays for
    both looks; a second threshold sends the most doubtful frames to large.
    """

    def family(bench: Bench) -> list[Routing]:
        doubt = bench.replay.looks[:, _NANO, _DOUBT]
        first = bench.replay.latency_ms[:, _NANO]
        found = []
        for low, high in _two_thresholds(levels):
            plain = bench.rung(f"doubt > {low:.2f}, {high:.2f}", _step(doubt, low, high))
            again = np.where(plain.choice == _NANO, 0.0, first)
            found.append(replace(plain, latency_ms=plain.latency_ms + again))
        return found

    return family


def previous_frame(bench: Bench) -> list[Routing]:
    """Large looks at every k-th frame of a clip; the frames between reuse its answer."""
    found = []
    for index, period in enumerate(REUSE_PERIODS):
        looked = _age(bench.replay, period) == 0
        latency = np.where(looked, bench.replay.latency_ms[:, _LARGE], 0.0).astype(np.float64)
        choice = np.where(looked, _LARGE, len(LADDER) + index)
        found.append(Routing(f"every {period}", choice, latency))
    return found


def oric(learn: Bench) -> Family:
    """Nano on every frame; large looks again where nano's answer promises most from it.

    In the manner of ORIC (Qiu et al. 2024, arXiv 2410.18919): a ridge regression estimates, from
    nano's detections, what large would add to the set's mAP; a threshold decides. An escalated
    frame pays for both looks.
    """
    looks = learn.replay.looks[:, _NANO]
    gain = learn.replay.quality[:, _LARGE] - learn.replay.quality[:, _NANO]
    predict = _ridge(looks, gain)
    levels = _levels(predict(looks))

    def family(bench: Bench) -> list[Routing]:
        estimate = predict(bench.replay.looks[:, _NANO])
        nano_ms = bench.replay.latency_ms[:, _NANO]
        found = []
        for level in levels:
            again = estimate > level
            plain = bench.rung(f"gain > {level:.3f}", np.where(again, _LARGE, _NANO))
            extra = np.where(again, nano_ms, 0.0)
            found.append(replace(plain, latency_ms=plain.latency_ms + extra))
        return found

    return family


def _ridge(
    looks: NDArray[np.float32], targets: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Ridge regression of targets [N] or [N, k] on look blocks [N, 16], as a function of looks."""
    mean, scale = looks.mean(axis=0, dtype=np.float64), looks.std(axis=0, dtype=np.float64) + 1e-6
    table = np.column_stack([(looks - mean) / scale, np.ones(len(looks))])
    weights = np.linalg.solve(
        table.T @ table + _RIDGE * len(looks) * np.eye(table.shape[1]), table.T @ targets
    )
    return lambda seen: np.asarray((seen - mean) / scale @ weights[:-1] + weights[-1])


def size_switching(learn: Bench) -> Family:
    """One network at several input sizes; the size that pays, as the previous look predicts it.

    In the manner of AdaScale (Chin et al. 2019, arXiv 1902.02910), which regresses the best scale
    of a frame on the features of the one before. Here a ridge regression predicts from the previous
    look what each size adds to the set's mAP; the knob is the weight of latency. The middle size
    looks at a first frame.

    Args:
        learn: frames to learn from whose "rungs" are the sizes, smallest first.
    """
    replay = learn.replay
    after = np.flatnonzero(replay.previous >= 0)
    before = replay.looks[replay.previous[after]]  # a size's look is the context, whichever it was
    predict = _ridge(
        before.transpose(1, 0, 2).reshape(-1, before.shape[2]),
        np.tile(replay.quality[after], (before.shape[1], 1)),
    )
    price = replay.latency_ms.mean(axis=0, dtype=np.float64)
    price = price / price[-1]

    def family(bench: Bench) -> list[Routing]:
        found = []
        for weight in np.geomspace(0.01, 3.0, _KNOB_LEVELS).tolist():

            def choose(step: Step, weight: float = weight) -> NDArray[np.int64]:
                gains = predict(looks_before(bench.replay, step)) - weight * price
                return np.where(step.before < 0, _SMALL, gains.argmax(axis=1))

            found.append(bench.rung(f"lambda {weight:.3f}", roll(bench.replay, choose)))
        return found

    return family


def ecore(learn: Bench) -> Family:
    """Frames are grouped by the objects of the previous look; each group has the rung that pays.

    In the manner of ECORE (arXiv 2507.06011). The rung of a group is that of the highest mean
    reward on the frames to learn from; the knob is the weight of latency in it.
    """
    counts = learn.replay.looks[:, _SMALL, _COUNT]
    edges = np.unique(np.quantile(counts, np.arange(1, _GROUPS) / _GROUPS))
    before = learn.replay.previous
    group = np.searchsorted(edges, counts[np.maximum(before, 0)])
    known = before >= 0
    if not known.any():  # stills have no frame before
        group, known = np.zeros(len(group), np.int64), np.ones(len(group), bool)
    weights = np.geomspace(0.01, 3.0, _KNOB_LEVELS).tolist()

    def rungs_of(weight: float) -> NDArray[np.int64]:
        reward = learn.replay.reward(weight)
        return np.array(
            [
                int(reward[known & (group == index)].mean(axis=0).argmax())
                if (known & (group == index)).any()
                else _SMALL
                for index in range(len(edges) + 1)
            ]
        )

    def family(bench: Bench) -> list[Routing]:
        found = []
        for weight in weights:
            rungs = rungs_of(weight)

            def choose(step: Step, rungs: NDArray[np.int64] = rungs) -> NDArray[np.int64]:
                counts = looks_before(bench.replay, step)[:, _COUNT]
                return np.where(step.before < 0, _SMALL, rungs[np.searchsorted(edges, counts)])

            found.append(bench.rung(f"lambda {weight:.3f}", roll(bench.replay, choose)))
        return found

    return family


def families(learn: Bench, observe_ms: float) -> dict[str, Family]:
    """All rules with a knob, their thresholds at quantiles of the frames to learn from.

    The last four are in the manner of published routers, on the same detections: `oric`, TOD
    (Lee et al. 2021, arXiv 2105.08668: the smaller the objects, the heavier the network), `ecore`,
    and RAMS (arXiv 2606.14716: the less sure the last detections, the heavier the tier).

    Args:
        learn: the part that may be learned from.
        observe_ms: milliseconds of the observation, which the edge rule has to make.
    """
    looks = learn.replay.looks
    edges = learn.replay.frames[:, FRAME_FEATURES - 4 :].mean(axis=1)
    return {
        "edge-density": edge_density(_levels(edges), observe_ms),
        "object-count": previous_look("count", "count_25", _levels(looks[:, _SMALL, _COUNT])),
        "cascade": cascade(_levels(looks[:, _NANO, _DOUBT])),
        "previous-frame": previous_frame,
        "oric": oric(learn),
        "tod": previous_look("-size", "size_mean", _levels(-looks[:, _SMALL, _SIZE]), -1),
        "ecore": ecore(learn),
        "rams": previous_look("-score", "score_mean", _levels(-looks[:, _SMALL, _SCORE]), -1),
    }


@dataclass(frozen=True, eq=False)
class Tuned:
    """A rule whose knob was set on the frames to learn from.

    Attributes:
        routings: its settings on the frontier there, routed on the frames to judge.
        learned: that frontier.
    """

    routings: Sequence[Routing]
    learned: Frontier


def tuned(family: Family, learn: Bench, judge: Bench) -> Tuned:
    """Set a rule's knob on the frames to learn from, and route those to judge."""
    points = [(routing.mean_ms, learn.accuracy(routing)) for routing in family(learn)]
    frontier = Frontier.of(points)
    judged = family(judge)
    return Tuned(
        [
            judged[index]
            for index, (latency, accuracy) in enumerate(points)
            if accuracy >= frontier.at(latency) - 1e-9
        ],
        frontier,
    )


def at_latency(
    routings: Sequence[Routing], latency_ms: float, bench: Bench, seed: int = 0
) -> Routing:
    """Mix two routings of a curve frame by frame so that their mean latency is the one asked for.

    The pair is that of the curve's frontier around the latency. Frames pass in random order from
    its cheap routing to its dear one, as many as come closest to the latency: the mean misses it
    by half of what one frame adds to it at the most. Beyond either end of the curve its last
    routing stands alone.
    """
    points = [(routing.mean_ms, bench.accuracy(routing)) for routing in routings]
    frontier = Frontier.of(points)
    ends = [points.index((x, y)) for x, y in zip(frontier.latency, frontier.accuracy, strict=True)]
    above = int(np.searchsorted(frontier.latency, latency_ms))
    if above == 0 or above == len(ends):
        return routings[ends[min(above, len(ends) - 1)]]
    cheap, dear = routings[ends[above - 1]], routings[ends[above]]
    order = np.random.default_rng(seed).permutation(len(cheap.choice))
    added = np.cumsum((dear.latency_ms - cheap.latency_ms)[order]) / len(order)
    missed = np.abs(cheap.mean_ms + np.concatenate([[0.0], added]) - latency_ms)
    drawn = np.zeros(len(order), bool)
    drawn[order[: missed.argmin()]] = True
    return Routing(
        f"{cheap.name} | {dear.name}",
        np.where(drawn, dear.choice, cheap.choice),
        np.where(drawn, dear.latency_ms, cheap.latency_ms),
    )


def oracle(bench: Bench, latency_weights: Sequence[float]) -> list[Routing]:
    """The labels themselves at several operating points: what a perfect policy would do."""
    return [
        bench.rung(f"lambda {weight:.4f}", bench.replay.reward(weight).argmax(axis=1))
        for weight in latency_weights
    ]
