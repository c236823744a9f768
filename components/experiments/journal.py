"""The ledger's journal: one line for each seal, and each line's hash covers the line before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.experiments.seal import Seal, digest
from foundation.errors import SealBroken
from foundation.json_lines import appending, read_lines

JOURNAL_FILE = "seals.jsonl"
_START = "0" * 64


@dataclass(frozen=True)
class SealEntry:
    """One seal.

    Attributes:
        attempt: its name.
        sha256: of the seal.
        sealed_at: ISO 8601, UTC.
        run_id: the attempt's MLflow run.
        link: hash of this entry and of the link before it.
    """

    attempt: str
    sha256: str
    sealed_at: str
    run_id: str
    link: str

    def linked_to(self, before: str) -> str:
        """What the link has to be after another one."""
        return digest([before, self.attempt, self.sha256, self.sealed_at, self.run_id])


def enter(folder: Path, experiment: str, make: Callable[[str], tuple[Seal, str]]) -> SealEntry:
    """Enter a seal as the journal's next line.

    Args:
        folder: of the ledger.
        experiment: what is launched.
        make: seals under the attempt's name that it is given, and returns the seal and its MLflow
            run; no other process enters anything meanwhile.

    Raises:
        InvalidInput: the journal is broken.
        SealBroken: its last line is no seal.
        StorageError: it cannot be written.
    """
    with appending(folder / JOURNAL_FILE) as (lines, append):
        number = 1 + sum(line.get("experiment") == experiment for line in lines)
        sealed, run_id = make(f"{experiment}.{number}")
        sealed_at = str(sealed.content["sealed_at"])
        before = str(lines[-1].get("link", "")) if lines else _START
        if not before:
            raise SealBroken(f"{folder / JOURNAL_FILE} ends with a line without link; restore it")
        entry = SealEntry(sealed.attempt, sealed.sha256, sealed_at, run_id, "")
        entry = SealEntry(
            entry.attempt, entry.sha256, entry.sealed_at, run_id, entry.linked_to(before)
        )
        append({"experiment": experiment, **entry.__dict__})
    return entry


def read_journal(folder: Path) -> tuple[SealEntry, ...]:
    """Every entry, in order, each link checked.

    Raises:
        SealBroken: a line is not what was written; names it.
        InvalidInput: a line is no JSON.
        StorageError: the file cannot be read.
    """
    entries: list[SealEntry] = []
    before = _START
    for number, line in enumerate(read_lines(folder / JOURNAL_FILE), 1):
        try:
            entry = SealEntry(*(str(line[name]) for name in SealEntry.__dataclass_fields__))
        except KeyError as error:
            raise SealBroken(f"{folder / JOURNAL_FILE} line {number} lacks {error}") from error
        if entry.linked_to(before) != entry.link:
            raise SealBroken(
                f"{folder / JOURNAL_FILE} line {number} ({entry.attempt}) was changed, or a line "
                "before it is gone"
            )
        entries.append(entry)
        before = entry.link
    return tuple(entries)


def by_attempt(entries: Sequence[SealEntry]) -> dict[str, SealEntry]:
    """Entries by the attempt's name."""
    return {entry.attempt: entry for entry in entries}
