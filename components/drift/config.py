"""How a drift check compares and decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foundation.errors import ConfigurationError
from foundation.ranges import check_range

Backend = Literal["auto", "alibi-detect", "numpy"]


@dataclass(frozen=True)
class DriftConfig:
    """How a window is compared with the reference, and what follows; see docs/drift.md.

    Attributes:
        alpha: chance that a check finds drift where nothing changed, over all its tests together
            (0.001 to 0.2). At 0.01 and four checks a day that is once in 25 days.
        tolerance: loss of accuracy retained from which drift counts as harmful (0 to 1).
        least: independent frames that a test needs on either side; below ten a level of one in a
            thousand is hardly within reach.
        most: independent frames that a test reads at most on either side: with very many, every
            difference is significant, however small.
        spacing: frames of a stream between two that count as independent; 0 estimates it from
            their autocorrelation.
        permutations: relabellings for the p-values of chi-square and MMD.
        embedding: who computes MMD: "alibi-detect" (the extra `drift`), "numpy", or "auto", which
            takes the first where it is installed.
        tabular: write Evidently's tabular report too.
        most_rows: answers of the log that are read at most, the newest.
        seed: of the relabellings.
    """

    alpha: float = 0.01
    tolerance: float = 0.02
    least: int = 10
    most: int = 1000
    spacing: int = 0
    permutations: int = 2000
    embedding: Backend = "auto"
    tabular: bool = True
    most_rows: int = 500_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigurationError: names the value and its range.
        """
        check_range(self, 0.001, 0.2, "alpha")
        check_range(self, 0, 1, "tolerance")
        check_range(self, 5, 10_000, "least")
        check_range(self, 10, 5_000, "most")
        check_range(self, 0, 10**6, "spacing")
        check_range(self, 100, 10**6, "permutations")
        check_range(self, 100, 10**8, "most_rows")
        if self.least > self.most:
            raise ConfigurationError(f"least is {self.least}, above most, which is {self.most}")
