"""Several processes write to one ledger: nothing is lost or doubled, and every seal is intact."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from experiment_samples import small_ledger
from processes import environment

from components.experiments.journal import read_journal

PROGRAM = Path(__file__).parents[2] / "support" / "ledger_writers.py"
WRITERS, EXPERIMENTS, LAUNCHES = ("a", "b", "c", "d", "web"), 20, 5


@pytest.mark.slow
@pytest.mark.usefixtures("no_shipped")
def test_no_record_of_five_writers_is_lost_or_doubled(tmp_path: Path, empty_mlflow: Path) -> None:
    command = [sys.executable, PROGRAM, tmp_path, empty_mlflow]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    ledger = small_ledger(tmp_path)
    mine = Counter(name.rpartition("-")[0] for name in ledger.known if "-" in name)
    assert mine == dict.fromkeys(WRITERS, EXPERIMENTS)
    expected = {f"base.{number}" for number in range(1, len(WRITERS) * LAUNCHES + 1)}
    entries = read_journal(ledger.folder)  # every link checked
    kept = [
        [one.attempt for one in entries],
        [one.attempt for one in ledger.index.attempts()],
        [one.attempt for one in ledger.records.all()],
    ]
    for names in kept:
        assert len(names) == len(expected) and set(names) == expected
    seals = [ledger.records.seal_of(one.run_id) for one in entries]
    assert [one.sha256 for one in seals] == [one.sha256 for one in entries]
    ledger.close()
