"""The figures of two experiments side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.experiments.attempt import Attempt
from components.experiments.ledger import Ledger
from components.experiments.outcome import Expectation

_HEADLINES = re.compile(
    r"retained|latency_ratio|gap_share|lift|scene_types\.\w+\.retained|"
    r"fleets\.gearshift\.cameras_\d+\.dropped"
)


@dataclass(frozen=True)
class FigurePair:
    """A metric of two launches.

    Attributes:
        metric: its name.
        first: its figure in the first launch; None where its report has none.
        second: likewise.
    """

    metric: str
    first: float | None
    second: float | None

    @property
    def change(self) -> float | None:
        """The second less the first; None where one is missing."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first


@dataclass(frozen=True)
class ResultDifferences:
    """Results of two experiments, compared.

    Attributes:
        first: the first one's last finished launch; None before one.
        second: likewise.
        figures: the metrics that contracts name and the headlines, or all of them.
    """

    first: Attempt | None
    second: Attempt | None
    figures: tuple[FigurePair, ...]


def result_differences(
    ledger: Ledger, first: str, second: str, everything: bool = False
) -> ResultDifferences:
    """Compare the last finished launches of two experiments.

    Args:
        ledger: whose.
        first: an experiment.
        second: another one.
        everything: every metric of the reports, not the headlines alone.
    """
    one, other = last_finished(ledger, first), last_finished(ledger, second)
    launches = [launch for launch in (one, other) if launch is not None]
    promised = {
        name
        for launch in launches
        if launch.expected
        for name in Expectation.read(launch.expected).metrics
    }
    names = dict.fromkeys(name for launch in launches for name in launch.figures)

    def figure(launch: Attempt | None, name: str) -> float | None:
        return None if launch is None else launch.figures.get(name)

    return ResultDifferences(
        one,
        other,
        tuple(
            FigurePair(name, figure(one, name), figure(other, name))
            for name in names
            if everything or name in promised or _HEADLINES.fullmatch(name)
        ),
    )


def last_finished(ledger: Ledger, experiment: str) -> Attempt | None:
    """The last launch of an experiment that has succeeded."""
    ended = [one for one in ledger.attempts(experiment) if one.state == "succeeded"]
    return ended[-1] if ended else None
