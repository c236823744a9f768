"""How often hypotheses hold: by author, and by objective."""

from __future__ import annotations

from dataclasses import dataclass

from components.experiments.index import Index

_QUERY = """
SELECT e.author, e.objective, json_extract(a.whole, '$.verdict'), count(*)
FROM experiments e JOIN attempts a ON a.attempt = (
    SELECT b.attempt FROM attempts b WHERE b.experiment = e.name AND b.verdict != ''
    ORDER BY b.verdict = 'void', b.number DESC LIMIT 1)
WHERE e.expected != ''
GROUP BY 1, 2, 3
"""


@dataclass(frozen=True)
class Tally:
    """Outcomes of the contracts of one author or objective; each contract counts once.

    Attributes:
        name: the author or the objective.
        met: expectations that held.
        missed: that did not.
        void: that could not be judged.
    """

    name: str
    met: int = 0
    missed: int = 0
    void: int = 0

    @property
    def share(self) -> float | None:
        """Met over met and missed; None where nothing could be judged."""
        judged = self.met + self.missed
        return self.met / judged if judged else None


@dataclass(frozen=True)
class Scoreboard:
    """Tallies by author and by objective, those with most judged contracts first."""

    authors: tuple[Tally, ...]
    objectives: tuple[Tally, ...]


def scoreboard(index: Index) -> Scoreboard:
    """Count what came of contracts: the last judged launch of each experiment that has one.

    A launch that failed makes a contract void only where no other launch was judged.

    Trials of a sweep count as the one sweep that promised something.
    """
    rows = index.ask(_QUERY)
    return Scoreboard(_tallies(rows, 0), _tallies(rows, 1))


def _tallies(rows: list[tuple[str, ...]], place: int) -> tuple[Tally, ...]:
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        mine = counts.setdefault(row[place], {})
        mine[row[2]] = mine.get(row[2], 0) + int(row[3])
    found = [Tally(name, **count) for name, count in counts.items()]
    return tuple(sorted(found, key=lambda one: (-one.met - one.missed, one.name)))
