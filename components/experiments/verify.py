"""Verification: every seal against its hash, the journal, MLflow, and the file as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.experiments.attempt import Attempt
from components.experiments.journal import by_attempt, read_journal
from components.experiments.ledger import Ledger
from components.experiments.resolve import contract_of, plain
from components.experiments.schema import nested
from components.experiments.seal import canonical
from foundation.errors import GearshiftError, SealBroken


@dataclass(frozen=True)
class Verification:
    """Result of verifying a seal.

    Attributes:
        attempt: the launch.
        verdict: "intact"; "edited" where the seal is intact and the file differs now,
            which the next launch will seal; "broken" where what was sealed was changed.
        detail: what differs; empty where nothing does.
    """

    attempt: str
    verdict: Literal["intact", "edited", "broken"]
    detail: str = ""


def verify(ledger: Ledger, attempts: Sequence[Attempt]) -> tuple[Verification, ...]:
    """Verify the seals of launches.

    Raises:
        SealBroken: the journal itself was changed; names the line.
        StorageError: MLflow or the journal cannot be read.
    """
    entries = by_attempt(read_journal(ledger.folder))
    found = []
    for one in attempts:
        try:
            entry = entries.get(one.attempt)
            if entry is None:
                raise SealBroken(f"the journal has no seal of {one.attempt}")
            sealed = ledger.records.seal_of(entry.run_id)
            if not entry.sha256 == sealed.sha256 == one.sha256:
                raise SealBroken(
                    f"the seal is {sealed.sha256[:12]}, the journal has {entry.sha256[:12]} and "
                    f"the index {one.sha256[:12]}"
                )
            changed = _edited(ledger, one, sealed.content)
            found.append(
                Verification(one.attempt, "edited" if changed else "intact", "; ".join(changed))
            )
        except SealBroken as error:
            found.append(Verification(one.attempt, "broken", str(error)))
    missing = set(entries) - {one.attempt for one in ledger.index.attempts()}
    found += [
        Verification(name, "broken", "it is in the journal, and MLflow's runs lack it")
        for name in sorted(missing)
    ]
    return tuple(found)


def _edited(ledger: Ledger, one: Attempt, content: Mapping[str, Any]) -> list[str]:
    """What the files state now that they did not when the seal was made."""
    try:
        contract, _ = contract_of(one.experiment, ledger.known)
        now = plain(ledger.resolved(one.experiment)) | content["overrides"]
    except GearshiftError as error:
        return [f"its file cannot be read now: {error}"]
    changed = [
        f"contract.{name} was {content['contract'][name]!r}"
        for name, text in asdict(contract).items()
        if content["contract"][name] != text
    ]
    sealed = content["configuration"]
    for stage, options in nested(now).items():
        changed += [
            f"{stage}.{name} was {sealed.get(stage, {}).get(name)!r}, is {value!r} now"
            for name, value in options.items()
            if canonical(value) != canonical(sealed.get(stage, {}).get(name))
        ]
    return changed
