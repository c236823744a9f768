"""The process of one launch: does it, waits for its end, and writes the outcome to the audit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foundation.audit_log import AUDIT, AuditLog
from foundation.errors import GearshiftError, InvalidInput, PipelineError, Unavailable
from foundation.json_lines import appending
from foundation.storage import atomic_path
from inference_graph.control.notifications.message import Message
from inference_graph.control.notifications.sender import Delivery, Sender
from inference_graph.control.notifications.webhooks import webhooks_of
from inference_graph.control.triggers.audit import (
    AUDIT_FILE,
    LaunchOutcome,
    OutcomeWord,
    record_outcome,
)
from inference_graph.control.triggers.kubeflow import RUNNING, SUCCEEDED, KubeflowRuns
from inference_graph.control.triggers.launch import RUN_SUFFIX

_GRACE = 10.0
"""Seconds a command has to end when it is stopped."""
_PATIENCE = 20.0
"""Seconds that the message about a failure has to leave."""
_LOST = 20
"""A run on Kubeflow counts as lost after so many failed questions in a row."""


class _Ended(Exception):
    """This process was asked to end."""


def run_launch(spec_file: Path, slot: int) -> LaunchOutcome:
    """Do what a launch asks for; the outcome stands in the audit when this returns.

    Args:
        spec_file: as ``inference_graph.control.triggers.launch`` writes it.
        slot: file descriptor of the lock, which the command inherits; closed when this returns.

    Raises:
        InvalidInput: the file is no launch.
        StorageError: the audit cannot be written.
    """
    try:
        spec = json.loads(spec_file.read_text(encoding="utf-8"))
        launch, state = str(spec["launch"]), Path(spec["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{spec_file} is no launch; see gearshift triggers history") from error
    began = time.monotonic()
    with _ended_by_signals():
        try:
            if spec["kubeflow"] is None:
                word, detail = _command(spec, slot)
            else:
                word, detail = _on_kubeflow(spec, spec_file.with_suffix(RUN_SUFFIX))
        except _Ended:
            word, detail = "ended", "it was ended by hand"
        except GearshiftError as error:
            word, detail = "failed", str(error)
    seconds = round(time.monotonic() - began, 1)
    outcome = LaunchOutcome(launch, datetime.now(UTC), word, detail, seconds)
    with appending(state / AUDIT_FILE) as (_, append):
        append(outcome.line())
        if os.environ.get(AUDIT):
            record_outcome(AuditLog(Path(os.environ[AUDIT])), outcome)
        os.close(slot)  # whoever reads the outcome finds the slot free
    if word != "succeeded":
        _notify_failure(spec, outcome)
    return outcome


def _command(spec: Mapping[str, Any], slot: int) -> tuple[OutcomeWord, str]:
    program, *arguments = spec["command"]
    # Started by a gateway, the folder of this Python may not be on the path; its programs count.
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(program, path=places)
    if found is None:
        raise InvalidInput(f"there is no program {program!r}; install it, or give its whole path")
    environment = {
        **os.environ,
        "GEARSHIFT_TRIGGER_LAUNCH": spec["launch"],
        "GEARSHIFT_TRIGGER_RULE": spec["rule"],
        "GEARSHIFT_TRIGGER_REASON": spec["reason"],
    }
    try:
        process = subprocess.Popen(
            (found, *arguments),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(slot,),
            env=environment,
        )
    except OSError as error:
        raise Unavailable(f"cannot start {found}: {error.strerror}") from error
    try:
        code = process.wait(spec["timeout_seconds"])
    except subprocess.TimeoutExpired:
        _end(process)
        return "timed out", f"ended after {spec['timeout_seconds'] / 3600:g} h"
    except _Ended:
        _end(process)
        raise
    return ("succeeded" if code == 0 else "failed"), f"exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return


def _on_kubeflow(spec: Mapping[str, Any], run_file: Path) -> tuple[OutcomeWord, str]:
    runs = KubeflowRuns(spec["kubeflow"])
    run_id = _run_id(runs, spec, run_file)
    print(f"run {run_id}", flush=True)
    until = time.monotonic() + spec["timeout_seconds"]
    lost = 0
    try:
        while time.monotonic() < until:
            try:
                state, error = runs.state(run_id)
                lost = 0
            except (Unavailable, PipelineError):
                state, error = "", ""
                lost += 1
                if lost >= _LOST:
                    return "unknown", f"Kubeflow says nothing of run {run_id} any more"
            if state not in RUNNING:
                word: OutcomeWord = "succeeded" if state in SUCCEEDED else "failed"
                detail = f"run {run_id}: {state.lower()}" + (f": {error[:300]}" if error else "")
                return word, detail
            time.sleep(spec["kubeflow"]["poll_seconds"])
    except _Ended:
        with contextlib.suppress(GearshiftError):
            runs.terminate(run_id)
        raise
    with contextlib.suppress(GearshiftError):
        runs.terminate(run_id)
    return "timed out", f"run {run_id} ended after {spec['timeout_seconds'] / 3600:g} h"


def _run_id(runs: KubeflowRuns, spec: Mapping[str, Any], run_file: Path) -> str:
    """The run of a launch, made unless a runner before this one did."""
    if run_file.is_file():
        return run_file.read_text(encoding="utf-8").strip()
    # Not tried again: a run whose answer was lost may exist, and two must not.
    run_id = runs.create(f"trigger-{spec['launch']}", f"{spec['rule']}: {spec['reason']}"[:1000])
    with atomic_path(run_file) as partial:
        partial.write_text(run_id + "\n", encoding="utf-8")
    return run_id


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    def end(*_: object) -> None:
        raise _Ended

    before = {kind: signal.signal(kind, end) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _notify_failure(spec: Mapping[str, Any], outcome: LaunchOutcome) -> None:
    """Report a launch that did not succeed: it has no terminal."""
    try:
        webhooks = webhooks_of(os.environ)
    except GearshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return
    if not webhooks:
        return
    sender = Sender(webhooks, Delivery(attempts=3, timeout_seconds=5.0))
    sender.send(
        Message(
            kind="pipeline",
            level="critical",
            title=f"A triggered launch {outcome.outcome}",
            text=outcome.detail,
            fields={"launch": outcome.launch, "rule": spec["rule"], "reason": spec["reason"]},
        )
    )
    sender.close(_PATIENCE)
