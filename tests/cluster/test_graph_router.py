"""KServe's graph router as a process: what our runner's tests state of a graph, asked of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
RULES = [next(HERE.parent.rglob(f"test_graph_{name}.py")) for name in ("rules", "execute")]
OURS = {
    "an ensemble's answer is its steps' answers by name, in the order of names",
    "no digit of a number is lost",
}
"""Rules of ours that the real router breaks: it writes an Ensemble's answers anew, without spaces
and with numbers rounded to 64-bit floats."""


@pytest.mark.timeout(600)
def test_the_rules_of_our_runner_are_the_real_ones(tools: Path) -> None:
    # The router's port is fixed, so it gets a network of its own, in which only this runs.
    enter = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up; exec "$@"', "-"]
    command = [
        *enter,
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "real_router",
        "-p",
        "no:cacheprovider",
        *map(str, RULES),
        "-k",
        "test_rule or cannot_be_reached or go_on_by_pattern or cookie",
    ]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    ran = subprocess.run(
        command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    failed = set(re.findall(r"^FAILED .*\[(.*)\](?: - .*)?$", ran.stdout, re.MULTILINE))
    assert failed == OURS, ran.stdout[-6000:] + ran.stderr[-2000:]
    (passed,) = re.findall(r"(\d+) passed", ran.stdout)
    assert int(passed) > 60
