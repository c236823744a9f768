"""The frames learned from with all that the rungs saw on them, which a replay does not hold.

Two settings of a policy are made on them: the operating point at which protected classes keep their
floors, and when the tracks of a stream answer a frame in place of a rung.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import load_dataset
from components.evaluation.alternatives import Bench
from components.evaluation.tracked import tuned_reuse
from components.policy.closed_loop import Decide
from components.profiling.detections import load_profiles
from components.profiling.replay import Replay
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.tracking import ReuseConfig


@dataclass(frozen=True, eq=False)
class SeenFrames:
    """Frames that may be learned from, as routings are judged on them.

    Attributes:
        bench: the frames.
        floors: least share of large's AP50-95, by protected class.
    """

    bench: Bench
    floors: Mapping[str, float]

    @classmethod
    def load(
        cls,
        replay: Replay,
        dataset: Path,
        detections: Mapping[str, Path],
        floors: Mapping[str, float],
    ) -> SeenFrames:
        """Read what the rungs saw on a replay's frames.

        Raises:
            ConfigurationError: a class to protect is none of the ladder's.
            InvalidInput: an artifact is of another data set.
        """
        found = list(load_profiles(detections).values())
        bench = Bench.build(replay, load_dataset(dataset), found)
        known = bench.task.parts(bench.classes)
        for name in floors:
            if name not in known:
                raise ConfigurationError(
                    f"gate.protect names {name!r}, which the ladder does not detect; "
                    f"choose of {', '.join(known)}"
                )
        return cls(bench, floors)

    def keep_floors(self, choice: NDArray[np.int64]) -> bool:
        """Whether each protected class keeps its floor on these frames.

        A class without objects on them cannot fall below it.

        Args:
            choice: int64 [N], the rung of each frame.
        """
        if not self.floors:
            return True
        large = np.full(len(choice), len(LADDER) - 1)
        ours, theirs = (self.bench.matched.class_accuracies(rungs) for rungs in (choice, large))
        names = list(self.bench.task.parts(self.bench.classes))
        rows = [(names.index(name), floor) for name, floor in self.floors.items()]
        return not any(ours[row] < floor * theirs[row] for row, floor in rows)

    def reuse(self, decide: Decide, latency_weight: float) -> ReuseConfig:
        """When the tracks answer in place of a rung, as it earns most on these frames.

        Never where the task's answers cannot be followed from frame to frame.
        """
        if not self.bench.task.tracks:
            return ReuseConfig()
        # Router and tracker are paid for on every frame, whatever the setting.
        return tuned_reuse(self.bench, decide, latency_weight, 0.0, 0.0)
