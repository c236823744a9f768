"""``gearshift bench rollout``: faults rolled back, identical revisions promoted, nothing lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field

from components.bench.rollout.simulate import Simulated, simulate
from components.bench.rollout.switches import Switched, switched
from components.bench.rollout.traffic_model import FAULTS, CameraFleet
from foundation.configuration import configuration
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER
from inference_graph.control.rollout.plan import POLICY, RolloutPlan
from inference_graph.tasks.rung import demo_for

Bar = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]


@configuration
class BenchRolloutConfig:
    """What is measured.

    Attributes:
        rollouts: simulated rollouts of each model and kind; none without any.
        cameras: streams of the simulated fleet.
        fps: frames per second of each.
        model: what the simulated rollouts are of: a detector (small), a policy, or all, which is
            both.
        seed: of the draws.
        workers: processes that simulate; 0 is one per core.
        switch_seconds: how long requests flow between two switches of the real processes; 0
            starts none.
    """

    rollouts: Annotated[int, Field(ge=0, le=100_000)] = 60
    cameras: Annotated[int, Field(ge=1, le=10_000)] = 8
    fps: Annotated[float, Field(ge=0.1, le=1000)] = 15.0
    model: Literal["all", "small", "policy"] = "all"
    seed: Annotated[int, Field(ge=0, le=100_000)] = 0
    workers: Annotated[int, Field(ge=0, le=1000)] = 0
    switch_seconds: Annotated[float, Field(ge=0, le=3600)] = 3.0


@dataclass(frozen=True)
class BenchRollout:
    """What was measured.

    Attributes:
        rolled_back: by fault, the share that was rolled back before it had more than 25 %; of all
            models together.
        promoted_identical: share of the identical revisions that were promoted, likewise.
        lost_requests: without an answer while traffic moved; None if that was left out.
        simulated: by model, the same and more on the simulated ones.
        switched: more on the real ones.
    """

    rolled_back: dict[str, float] | None
    promoted_identical: float | None
    lost_requests: int | None
    simulated: dict[str, Simulated]
    switched: Switched | None


def bench_rollout(
    policy: Path,
    ladder: Mapping[str, Path],
    config: BenchRolloutConfig,
    bar: Bar,
    say: Callable[[str], None],
) -> BenchRollout:
    """Simulate rollouts, and switch real traffic.

    Args:
        policy: the policy's ONNX file, for the real ones.
        ladder: by rung, its weights.
        config: what is measured.
        bar: makes a progress bar with a label.
        say: called with what the real processes do.

    Raises:
        InvalidInput: there is no such policy.
        Unavailable: a service does not start.
    """
    if config.switch_seconds and not policy.is_file():
        demo = demo_for(policy, ladder[LADDER[0]])
        raise InvalidInput(
            f"there is no policy at {policy}; run `{demo}`, name one with --policy, or leave "
            "the real processes out with --switch-seconds 0"
        )
    found: dict[str, Simulated] = {}
    models = ("small", POLICY) if config.model == "all" else (config.model,)
    for model in models if config.rollouts else ():
        with bar(f"rollouts of {model}") as progress:
            fleet = CameraFleet(config.cameras, config.fps, model)
            found[model] = simulate(
                RolloutPlan(), fleet, config.rollouts, config.seed, progress, config.workers
            )
    moved: Switched | None = None
    if config.switch_seconds:
        with tempfile.TemporaryDirectory(prefix="gearshift-rollout-") as folder:
            moved = switched(policy, dict(ladder), Path(folder), config.switch_seconds, say)
    every = list(found.values())
    return BenchRollout(
        rolled_back={fault: fmean(one.rolled_back[fault] for one in every) for fault in FAULTS}
        if every
        else None,
        promoted_identical=fmean(one.promoted_identical for one in every) if every else None,
        lost_requests=None if moved is None else sum(moved.lost.values()),
        simulated=found,
        switched=moved,
    )
