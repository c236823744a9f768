"""``gearshift bench rollout``: faults rolled back, identical revisions promoted, nothing lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.rollout_bench.simulate import Simulated, simulate
from components.rollout_bench.switches import Switched, switched
from components.rollout_bench.traffic_model import Fleet
from feature_transformer.errors import InvalidInput
from feature_transformer.ranges import check_range
from inference_graph.rollout.plan import RolloutPlan

Bar = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]


@dataclass(frozen=True)
class BenchRolloutConfig:
    """What is measured.

    Attributes:
        rollouts: simulated rollouts of each kind; none without any.
        cameras: streams of the simulated fleet.
        fps: frames per second of each.
        model: what the simulated rollouts are of: a rung, or "policy".
        seed: of the draws.
        switch_seconds: how long requests flow between two switches of the real processes; 0
            starts none.
    """

    rollouts: int = 60
    cameras: int = 8
    fps: float = 15.0
    model: Literal["small", "policy"] = "small"
    seed: int = 0
    switch_seconds: float = 3.0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value is out of range."""
        check_range(self, 0, 100_000, "rollouts", "seed")
        check_range(self, 1, 10_000, "cameras")
        check_range(self, 0.1, 1000, "fps")
        check_range(self, 0, 3600, "switch_seconds")


@dataclass(frozen=True)
class BenchRollout:
    """What was measured.

    Attributes:
        rolled_back: by fault, the share that was rolled back before it had more than 25 %.
        promoted_identical: share of the identical revisions that were promoted.
        lost_requests: without an answer while traffic moved; None if that was left out.
        simulated: more on the simulated ones.
        switched: more on the real ones.
    """

    rolled_back: dict[str, float] | None
    promoted_identical: float | None
    lost_requests: int | None
    simulated: Simulated | None
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
        say: told what the real processes do.

    Raises:
        InvalidInput: there is no such policy.
        Unavailable: a service does not start.
    """
    if config.switch_seconds and not policy.is_file():
        raise InvalidInput(
            f"there is no policy at {policy}; run `make demo`, name one with --policy, or leave "
            "the real processes out with --switch-seconds 0"
        )
    simulated: Simulated | None = None
    if config.rollouts:
        with bar("rollouts") as progress:
            fleet = Fleet(config.cameras, config.fps, config.model)
            simulated = simulate(RolloutPlan(), fleet, config.rollouts, config.seed, progress)
    moved: Switched | None = None
    if config.switch_seconds:
        with tempfile.TemporaryDirectory(prefix="gearshift-rollout-") as folder:
            moved = switched(policy, dict(ladder), Path(folder), config.switch_seconds, say)
    return BenchRollout(
        rolled_back=None if simulated is None else simulated.rolled_back,
        promoted_identical=None if simulated is None else simulated.promoted_identical,
        lost_requests=None if moved is None else sum(moved.lost.values()),
        simulated=simulated,
        switched=moved,
    )
