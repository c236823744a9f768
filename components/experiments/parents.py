"""The parent's launch that a contract compares with, fixed in the seal before the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.experiments.document import Contract
from components.experiments.ledger import Ledger
from components.experiments.outcome import Expectation
from foundation.errors import ConfigurationError

_SAME = ("data_version", "ladder_version")
_PLACES = ("inputs.", "register.")
"""Overrides that change no option of the experiment: where data, ladder and results lie."""


def parent_record(
    ledger: Ledger, contract: Contract, owner: str, versions: Mapping[str, str] | None
) -> dict[str, Any]:
    """The parent's last finished launch on the same data and ladder.

    Args:
        ledger: where it is looked up.
        contract: of the launch that is to be sealed.
        owner: the experiment whose contract it is.
        versions: of the data and the ladder that the launch reads; None takes any.

    Returns:
        ``attempt`` and ``figures``, the parent's metrics that the contract names by name; empty
        where it names none.

    Raises:
        ConfigurationError: the contract names the parent's metrics, and there is no parent, it has
            no finished launch, or that one's report lacks a metric.
        SealBroken, StorageError: as ``Records.seal_of``.
    """
    names = Expectation.read(contract.expected).parent_metrics
    if not names:
        return {}
    parent = ledger.experiment(owner).extends
    if not parent:
        raise ConfigurationError(
            f"{owner} is compared with its parent ({contract.expected}) and has none; write "
            "`extends: PARENT` into its file, or compare with a number"
        )
    for attempt in reversed(ledger.attempts(parent)):
        if attempt.state != "succeeded":
            continue
        if any(not path.startswith(_PLACES) for path in attempt.overrides):
            continue
        sealed = ledger.records.seal_of(attempt.run_id).content
        if sealed["plan"] or (
            versions is not None
            and any(sealed["versions"].get(one) != versions.get(one) for one in _SAME)
        ):
            continue
        lacking = [name for name in names if name not in attempt.figures]
        if lacking:
            raise ConfigurationError(
                f"{owner} is compared with {lacking[0]} of {attempt.attempt}, whose report has "
                "none; compare with another metric"
            )
        return {
            "attempt": attempt.attempt,
            "figures": {name: attempt.figures[name] for name in names},
        }
    raise ConfigurationError(
        f"{owner} is compared with its parent {parent}, which has no finished launch on the same "
        f"data and ladder; run it first: `gearshift experiment run {parent}`"
    )
