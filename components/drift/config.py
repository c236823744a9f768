"""How a drift check compares and decides."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError

Backend = Literal["auto", "alibi-detect", "numpy"]


@configuration
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

    alpha: Annotated[float, Field(ge=0.001, le=0.2)] = 0.01
    tolerance: Share = 0.02
    least: Annotated[int, Field(ge=5, le=10_000)] = 10
    most: Annotated[int, Field(ge=10, le=5_000)] = 1000
    spacing: Annotated[int, Field(ge=0, le=10**6)] = 0
    permutations: Annotated[int, Field(ge=100, le=10**6)] = 2000
    embedding: Backend = "auto"
    tabular: bool = True
    most_rows: Annotated[int, Field(ge=100, le=10**8)] = 500_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where the least is above the most."""
        if self.least > self.most:
            raise ConfigurationError(f"least is {self.least}, above most, which is {self.most}")
