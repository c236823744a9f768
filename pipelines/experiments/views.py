"""What a terminal, an API and a page show of the ledger, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from components.experiments.attempt import Attempt
from components.experiments.launches import log_of, steps_of
from components.experiments.ledger import Ledger
from components.experiments.resolve import chain, contract_of, same
from components.experiments.results import result_differences
from components.experiments.scoreboard import Scoreboard, Tally
from components.experiments.scoring import score, scored
from foundation.errors import ConfigurationError, NotFound


def experiment_view(ledger: Ledger, name: str) -> dict[str, Any]:
    """All there is to know of an experiment.

    Raises:
        NotFound, ConfigurationError: as ``Ledger.resolved``.
    """
    one = ledger.experiment(name)
    resolved = ledger.resolved(name)
    try:
        contract, owner = contract_of(name, ledger.known)
    except ConfigurationError:
        promised = None
    else:
        promised = {**asdict(contract), "of": owner}
    return {
        "name": name,
        "file": str(one.file),
        "extends": [parent.name for parent in chain(name, ledger.known)][:-1],
        "contract": promised,
        "tags": list(one.tags),
        "notes": one.notes,
        "configuration": {
            path: {"value": value.value, "from": value.origin} for path, value in resolved.items()
        },
        "launches": [attempt_view(ledger, attempt) for attempt in ledger.attempts(name)],
    }


def attempt_view(ledger: Ledger, attempt: Attempt) -> dict[str, Any]:
    """All there is to know of a launch: its state, its steps, the log of the one that failed."""
    log = log_of(attempt, attempt.failing_step) if attempt.failing_step else None
    return {
        **asdict(attempt),
        "steps": steps_of(ledger, attempt),
        "log": str(log) if log is not None and log.is_file() else "",
    }


def difference_view(
    ledger: Ledger, first: str, second: str, everything: bool = False
) -> dict[str, Any]:
    """What two experiments do not share, and their results; raises as ``Ledger.differences``."""
    results = result_differences(ledger, first, second, everything)
    view: dict[str, Any] = {
        "first": first,
        "second": second,
        "differences": [asdict(one) for one in ledger.differences(first, second)],
        "results": {
            "first": _outcome(results.first),
            "second": _outcome(results.second),
            "figures": [{**asdict(one), "change": one.change} for one in results.figures],
        },
    }
    if everything:
        other = ledger.resolved(second)
        view["shared"] = {
            path: value.value
            for path, value in ledger.resolved(first).items()
            if path in other and same(value.value, other[path].value)
        }
    return view


def _outcome(launch: Attempt | None) -> dict[str, str] | None:
    if launch is None:
        return None
    return {name: getattr(launch, name) for name in ("attempt", "verdict", "reason", "expected")}


def scoreboard_view(board: Scoreboard) -> dict[str, Any]:
    """Tallies by author and objective."""

    def row(one: Tally) -> Mapping[str, Any]:
        return {**asdict(one), "share": one.share}

    return {
        "authors": [row(one) for one in board.authors],
        "objectives": [row(one) for one in board.objectives],
    }


def score_again(ledger: Ledger, name: str) -> dict[str, Any]:
    """Score the last finished launch of an experiment from its seal and its figures.

    Raises:
        NotFound: nothing of it has finished.
        SealBroken: its seal was changed.
        StorageError: MLflow cannot be used.
    """
    ledger.experiment(name)
    ended = [one for one in ledger.attempts(name) if one.state == "succeeded"]
    if not ended:
        raise NotFound(f"no launch of {name} has finished; `gearshift experiment run {name}`")
    attempt = ended[-1]
    found = score(ledger.records.seal_of(attempt.run_id), attempt.figures)
    ledger.store(replace(scored(attempt, found, attempt.figures)))
    return {"attempt": attempt.attempt, "expected": attempt.expected, **asdict(found)}
