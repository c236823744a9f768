"""Simulated rollouts: the analysis is the controller's own, its rows are drawn."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from components.bench.rollout.traffic_model import FAULTS, CameraFleet, rows
from components.parallel import worker_count
from inference_graph.control.rollout.analysis import StepAnalysis
from inference_graph.control.rollout.plan import FULL, RolloutPlan

IDENTICAL = "identical"
KINDS = (IDENTICAL, *FAULTS)


@dataclass(frozen=True)
class Ending:
    """How a simulated rollout ended.

    Attributes:
        outcome: "promoted", "rolled back", or "undecided" when its time was over.
        weight: the canary's share at the end, per cent.
        metric: what was breached; empty otherwise.
        frames: by the step's weight, how many frames both revisions had in it.
    """

    outcome: str
    weight: int
    metric: str
    frames: dict[int, int]


def simulated(plan: RolloutPlan, fleet: CameraFleet, fault: str, seed: int) -> Ending:
    """Run one rollout as the controller would, over drawn rows.

    Args:
        plan: how it goes.
        fleet: whose frames are drawn.
        fault: one of ``FAULTS``, or "identical".
        seed: of the draws.
    """
    frames: dict[int, int] = {}
    rate = fleet.cameras * fleet.fps
    most = plan.max_hours * 3600 * rate
    for weight in plan.steps:
        if weight == FULL:
            break
        analysis: StepAnalysis | None = None
        frames[weight] = 0
        for arms, table in rows(fleet, weight, plan, fault, seed * 101 + weight):
            analysis = analysis or StepAnalysis(plan, arms)
            analysis.add(table)
            frames[weight] += table.num_rows
            found = analysis.look()
            if found.verdict == "breached":
                metric = next(one.metric for one in found.findings if one.breached)
                return Ending("rolled back", weight, metric, frames)
            if found.verdict == "passed" and frames[weight] >= plan.min_seconds * rate:
                break
            if frames[weight] >= most:
                return Ending("undecided", weight, "", frames)
    return Ending("promoted", FULL, "", frames)


@dataclass(frozen=True)
class Simulated:
    """Outcomes of many simulated rollouts.

    Attributes:
        rollouts: of each kind.
        rolled_back: by fault, the share that was rolled back before it had more than 25 %.
        promoted_identical: share of the identical revisions that were promoted.
        frames: by kind and the step's weight, median and 95th percentile of the frames it took.
        hours: by kind, the median time of a rollout of this fleet.
    """

    rollouts: int
    rolled_back: dict[str, float]
    promoted_identical: float
    frames: dict[str, dict[str, tuple[int, int]]]
    hours: dict[str, float]


def simulate(
    plan: RolloutPlan,
    fleet: CameraFleet,
    rollouts: int,
    seed: int,
    progress: Callable[[int, int | None], None],
    workers: int = 1,
) -> Simulated:
    """Run many rollouts of every kind.

    Args:
        plan: how they go.
        fleet: whose frames are drawn.
        rollouts: of each kind.
        seed: of the first one.
        progress: called with how many of how many are done.
        workers: processes; 0 is one per core, 1 simulates in this one.
    """
    endings: dict[str, list[Ending]] = {kind: [] for kind in KINDS}
    wanted = [
        (kind, seed + 1000 * place + number)
        for place, kind in enumerate(KINDS)
        for number in range(rollouts)
    ]
    with _mapping(worker_count(workers)) as run:
        found = run(partial(_one, plan, fleet), wanted)
        for done, ((kind, _), ending) in enumerate(zip(wanted, found, strict=True), 1):
            endings[kind].append(ending)
            progress(done, len(wanted))
    rate = fleet.cameras * fleet.fps * 3600
    return Simulated(
        rollouts=rollouts,
        rolled_back={
            fault: sum(one.outcome == "rolled back" and one.weight <= 25 for one in endings[fault])
            / rollouts
            for fault in FAULTS
        },
        promoted_identical=sum(one.outcome == "promoted" for one in endings[IDENTICAL]) / rollouts,
        frames={kind: _frames(found) for kind, found in endings.items()},
        hours={
            kind: float(np.median([sum(one.frames.values()) for one in found])) / rate
            for kind, found in endings.items()
        },
    )


def _one(plan: RolloutPlan, fleet: CameraFleet, wanted: tuple[str, int]) -> Ending:
    return simulated(plan, fleet, *wanted)


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterable[Ending]]]:
    """``map`` in this process, or in several; they are spawned, for this one has threads."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def _frames(found: list[Ending]) -> dict[str, tuple[int, int]]:
    weights = sorted({weight for one in found for weight in one.frames})
    reported = {}
    for weight in weights:
        counts = [one.frames[weight] for one in found if weight in one.frames]
        reported[str(weight)] = (int(np.median(counts)), int(np.quantile(counts, 0.95)))
    return reported
