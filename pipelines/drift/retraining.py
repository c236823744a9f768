"""Retraining from inside a step of the drift pipeline: a process of its own, as a user calls it.

A step runs with the half of KFP that steps need, and the retraining runs a pipeline itself, which
needs the other half; the two do not go together in one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.errors import PipelineError

_STEPS_ONLY = "_KFP_RUNTIME"
"""Set in steps: KFP then leaves out what defines and runs pipelines."""


def retrain_apart(
    options: Mapping[str, Any],
    ladder: str,
    training: Mapping[str, Mapping[str, Any]],
    out: Path,
) -> dict[str, Any]:
    """Run ``gearshift retrain``; its output goes to standard error.

    Args:
        options: of the retraining, by name; empty ones keep their default.
        ladder: folder of the rungs' weights; empty takes the sample ladder.
        training: options of the training pipeline's stages.
        out: results folder.

    Returns:
        What it came to, as its ``--json`` prints it.

    Raises:
        PipelineError: it failed; names its last words.
    """
    command = [sys.executable, "-m", "gearshift", "retrain", "--json", "--out", str(out)]
    if ladder:
        command += ["--ladder", ladder]
    for name, value in options.items():
        if value not in (None, ""):
            command += [f"--{name.replace('_', '-')}", str(value)]
    for setting in _settings(training, ""):
        command += ["--set", setting]
    environment = {name: value for name, value in os.environ.items() if name != _STEPS_ONLY}
    last = ""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
        output = process.stdout.read() if process.stdout is not None else ""
    if process.returncode:
        raise PipelineError(f"the retraining failed: {last.removeprefix('error: ')}")
    return dict(json.loads(output))


def _settings(options: Mapping[str, Any], before: str) -> Iterator[str]:
    """Options of stages as ``stage.option=value``."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{before}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{before}{name}={','.join(map(str, value))}"
        else:
            yield f"{before}{name}={value}"
