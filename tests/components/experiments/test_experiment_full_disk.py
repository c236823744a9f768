"""A ledger whose disk is full: one line, nothing written before is lost, and it goes on later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from experiment_samples import CONTRACT, attempt, schema, write
from small_disk import filled, small_disk

from components.experiments.journal import enter, read_journal
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.seal import Seal, seal
from foundation.errors import StorageError

pytestmark = pytest.mark.usefixtures("no_shipped")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as made:
        yield made


def sealed(name: str) -> tuple[Seal, str]:
    return seal("base", name, CONTRACT, {}, {}, "", {}, f"2026-{name}", {}), f"run-{name}"


def test_a_ledger_on_a_full_disk(disk: Path) -> None:
    write(disk, "base")

    def opened() -> Ledger:
        made = Ledger(LedgerConfig(disk / "experiments", disk / "ledger"), schema)
        made.refresh()
        return made

    ledger = opened()
    ledger.new("kept", "base", contract=CONTRACT)
    enter(ledger.folder, "base", sealed)
    ledger.index.put_attempts([attempt("base")])

    def refused(work: Callable[[], Any]) -> None:
        with pytest.raises(StorageError, match="full|No space left") as error:
            work()
        assert "\n" not in str(error.value)

    with filled(disk):
        refused(lambda: ledger.new("lost", "base", notes="x" * 5000))
        refused(lambda: [enter(ledger.folder, "base", sealed) for _ in range(100)])
        many = [attempt("base", number) for number in range(2, 500)]
        refused(lambda: ledger.index.put_attempts(many))
        assert set(ledger.known) == {"base", "kept"}  # what is there is read all the same
        assert [one.attempt for one in ledger.index.attempts()] == ["base.1"]
        before = read_journal(ledger.folder)
    assert before[0].attempt == "base.1"
    ledger.new("lost", "base")
    after = [enter(ledger.folder, "base", sealed), *read_journal(ledger.folder)]
    assert tuple(after[1:]) == (*before, after[0])
    ledger.index.put_attempts([attempt("base", 2)])
    ledger.close()
    with filled(disk), pytest.raises(StorageError) as closed:
        opened()  # an index that no process has open needs a few kilobytes to be read
    assert "free some space" in str(closed.value) and "\n" not in str(closed.value)
    again = opened()
    assert set(again.known) == {"base", "kept", "lost"}
    assert [one.attempt for one in again.index.attempts()] == ["base.1", "base.2"]
    again.close()
