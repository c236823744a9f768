"""The queue: launches that were sealed wait here, and a process beside the terminal runs them.

One worker serves a ledger, one launch at a time: two would take the cores from each other, and
with them the latencies that they measure. Each launch is a process of its own, so that its exit
code is known even where it was killed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from components.experiments.attempt import ENDED, Attempt
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.locks import attempt_folder, held, holder
from feature_transformer.errors import ConfigurationError, GearshiftError, Unavailable
from pipelines.experiment_launch import launch_here, note_interrupted, now, steps_of
from pipelines.experiment_schema import open_ledger
from pipelines.experiment_sweep import go_on, is_sweep

OUTPUT_FILE = "output.log"
_WORKER_LOCK = "worker.lock"
_WORKER_LOG = "worker.log"


def start_worker(ledger: Ledger) -> int | None:
    """Have a worker serve the queue, beside this process and after its end.

    Returns:
        Its process; None where one works already.

    Raises:
        Unavailable: no process can be started.
    """
    if holder(ledger.folder / _WORKER_LOCK) is not None:
        return None
    with (ledger.folder / _WORKER_LOG).open("ab") as log:
        try:
            process = subprocess.Popen(
                _command("work", ledger.config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"cannot start a worker: {error.strerror}") from error
    return process.pid


def requeue(ledger: Ledger, attempt: Attempt) -> Attempt:
    """Put a launch of this machine that did not succeed back into the queue, under its seal.

    Raises:
        ConfigurationError: it waits, runs or has succeeded, or it belongs to a cluster.
        StorageError: MLflow cannot be written to.
    """
    if attempt.place != "here":
        raise ConfigurationError(f"{attempt.attempt} runs on Kubeflow; resume it in a terminal")
    if attempt.state not in ("interrupted", "cancelled", "failed"):
        raise ConfigurationError(f"{attempt.attempt} is {attempt.state}; nothing is to be resumed")
    waiting = replace(attempt, state="queued", verdict="", reason="", exit_code=None)
    ledger.store(waiting)
    return waiting


def work(config: LedgerConfig) -> int:
    """Run what waits, the oldest first, until nothing does; returns how many were run.

    Raises:
        GearshiftError: the ledger cannot be read or written.
    """
    done = 0
    with held(config.ledger / _WORKER_LOCK) as mine:
        while mine:
            ledger = open_ledger(config)
            try:
                note_interrupted(ledger)
                waiting = [
                    one for one in ledger.index.attempts("state = 'queued'") if one.place == "here"
                ]
                if not waiting:
                    return done
                _run(ledger, waiting[0])
                done += 1
            finally:
                ledger.close()
    return done


def run_attempt(config: LedgerConfig, name: str) -> None:
    """Run one launch in this process; raises as ``launch_here``."""
    ledger = open_ledger(config)
    try:
        attempt = ledger.index.attempt(name)
        if attempt.state != "queued":
            return  # cancelled since the worker chose it
        if is_sweep(ledger, attempt):
            go_on(ledger, attempt)
        else:
            launch_here(ledger, attempt, lambda event: print(event, flush=True))
    finally:
        ledger.close()


def _run(ledger: Ledger, attempt: Attempt) -> None:
    folder = attempt_folder(ledger.folder, attempt.attempt)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT_FILE).open("ab") as log:
        process = subprocess.Popen(
            _command("run", ledger.config, attempt.attempt),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        code = process.wait()
    ended = ledger.index.attempt(attempt.attempt)
    if ended.state in ENDED:
        if ended.exit_code is None:
            ledger.store(replace(ended, exit_code=code))
        return
    # It had no chance to say anything: killed from outside, or it broke before it began.
    at = [step["step"] for step in steps_of(ledger, attempt) if step["state"] == "running"]
    words = f"its process ended with {code}; see {folder / OUTPUT_FILE}"
    ledger.store(
        replace(
            ended, state="failed", verdict="void", ended_at=now(), exit_code=code, reason=words,
            failing_step=at[-1] if at else "",
        )
    )  # fmt: skip


def _command(verb: str, config: LedgerConfig, attempt: str = "") -> list[str]:
    places = {name: str(value) for name, value in asdict(config).items()}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in places.items()]
    return [sys.executable, "-m", "pipelines.experiment_worker", verb, attempt, *options]


def main(words: Sequence[str]) -> int:
    """What the processes of this file do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("work", "run"))
    parser.add_argument("attempt", nargs="?", default="")
    parser.add_argument("--experiments", type=Path, default=LedgerConfig.experiments)
    parser.add_argument("--ledger", type=Path, default=LedgerConfig.ledger)
    parser.add_argument("--tracking-uri", default="")
    given = parser.parse_args(words)
    config = LedgerConfig(given.experiments, given.ledger, given.tracking_uri)
    try:
        if given.verb == "work":
            work(config)
        else:
            run_attempt(config, given.attempt)
    except GearshiftError as error:
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
