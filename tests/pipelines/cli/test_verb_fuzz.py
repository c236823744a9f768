"""Every verb with random paths and options: no traceback, and nothing of the user's is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import runs
from processes import environment

PROGRAM = Path(__file__).resolve().parents[2] / "support" / "verb_fuzz.py"


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_no_verb_breaks_or_destroys_anything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    variables = {
        "HOME": str(home),
        "GEARSHIFT_CACHE": str(home / "cache"),
        "GEARSHIFT_AUDIT": str(home / "audit.jsonl"),
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "21", str(runs(20, 2000)), str(tmp_path / "runs")],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    *faults, end = done.stdout.splitlines() or [""]
    words = [json.loads(fault) for fault in faults]
    assert not words, "\n\n".join(f"gearshift {one['run']}\n{one['fault']}" for one in words)
    assert (done.returncode, end) == (0, "done"), done.stderr[-2000:]
