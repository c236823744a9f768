"""The queue: launches that were sealed wait here, and a process beside the terminal runs them.

One worker serves a ledger, one launch at a time: two would take the cores from each other, and
with them the latencies that they measure. Each launch is a process of its own, so that its exit
code is known even where it was killed. A sweep on Kubeflow takes no cores here: it has a process of
its own and waits for no other.

The worker itself imports neither stages nor KFP; they are for the process that runs a launch.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.experiments.attempt import ENDED, Attempt
from components.experiments.launches import note_interrupted, now, steps_of
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.locks import attempt_folder, held, holder
from foundation.errors import ConfigurationError, GearshiftError, Unavailable
from foundation.storage import atomic_path
from pipelines.experiments.kubeflow import ClusterConfig
from pipelines.experiments.schema import open_ledger

if TYPE_CHECKING:
    from pipelines.local import StepEvent

OUTPUT_FILE = "output.log"
_WORKER_LOCK = "worker.lock"
_WORKER_LOG = "worker.log"
_CLUSTER_FILE = "cluster.json"


def start_worker(ledger: Ledger) -> int | None:
    """Have a worker serve the queue, beside this process and after its end.

    Returns:
        Its process; None where one works already.

    Raises:
        Unavailable: no process can be started.
    """
    if holder(ledger.folder / _WORKER_LOCK) is not None:
        return None
    return _beside(_command("work", ledger.config), ledger.folder / _WORKER_LOG)


def start_sweep(ledger: Ledger, sweep: Attempt) -> int:
    """Have a process of its own go on with a sweep on Kubeflow; returns the process.

    Raises:
        ConfigurationError: the sweep does not name which Kubeflow; see ``keep_cluster``.
        Unavailable: no process can be started.
    """
    kept_cluster(ledger, sweep)
    output = attempt_folder(ledger.folder, sweep.attempt) / OUTPUT_FILE
    return _beside(_command("run", ledger.config, sweep.attempt), output)


def keep_cluster(ledger: Ledger, sweep: Attempt, cluster: ClusterConfig) -> None:
    """Write down where the trials of a sweep go, for whoever goes on with it; not the token."""
    with atomic_path(attempt_folder(ledger.folder, sweep.attempt) / _CLUSTER_FILE) as partial:
        values = {
            name: str(one) if isinstance(one, Path) else one
            for name, one in asdict(cluster).items()
        }
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def kept_cluster(ledger: Ledger, sweep: Attempt) -> ClusterConfig:
    """Where the trials of a sweep go.

    Raises:
        ConfigurationError: it was not written on this machine.
    """
    file = attempt_folder(ledger.folder, sweep.attempt) / _CLUSTER_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        token = values.pop("token_file")
        return ClusterConfig(token_file=Path(token) if token else None, **values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{sweep.attempt} was begun on another machine, or {file} is broken; go on with it "
            "there, or sweep anew"
        ) from error


def requeue(ledger: Ledger, attempt: Attempt) -> Attempt:
    """Put a launch that did not succeed back into the queue, under its seal.

    Raises:
        ConfigurationError: it waits, runs or has succeeded, or it is a run on Kubeflow.
        StorageError: MLflow cannot be written to.
    """
    if attempt.kubeflow_run:
        raise ConfigurationError(
            f"{attempt.attempt} is Kubeflow's to run again; retry it there, or launch "
            f"{attempt.experiment} again"
        )
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
    from pipelines.experiments.launch import launch_here
    from pipelines.experiments.sweep import go_on, is_sweep, on_cluster

    ledger = open_ledger(config)
    try:
        attempt = ledger.index.attempt(name)
        if attempt.state != "queued":
            return  # cancelled since the worker chose it
        if is_sweep(ledger, attempt):
            there = attempt.place == "cluster"
            go_on(ledger, attempt, on_cluster(kept_cluster(ledger, attempt)) if there else None)
        else:
            launch_here(ledger, attempt, _step_printer())
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
    if ended.state in (*ENDED, "interrupted"):
        if ended.exit_code is None:
            ledger.store(replace(ended, exit_code=code))
        return
    # It had no chance to report anything: killed from outside, or it broke before it began.
    at = [step["step"] for step in steps_of(ledger, attempt) if step["state"] == "running"]
    if code < 0:
        # What was killed was not judged: it goes on under its seal.
        words = f"its process was killed by {_signal(-code)}; resume it"
        ledger.store(replace(ended, state="interrupted", exit_code=code, reason=words))
        return
    words = f"its process ended with {code}; see {folder / OUTPUT_FILE}"
    ledger.store(
        replace(
            ended,
            state="failed",
            verdict="void",
            ended_at=now(),
            exit_code=code,
            reason=words,
            failing_step=at[-1] if at else "",
        )
    )


def _step_printer() -> Callable[[StepEvent], None]:
    """Prints on standard error which step begins and ends; standard output is the steps'."""
    shown: dict[str, str] = {}

    def on_event(event: StepEvent) -> None:
        if shown.get(event.step) != event.state:
            shown[event.step] = event.state
            seconds = f" in {event.seconds:.1f} s" if event.seconds else ""
            print(f"{now()} {event.step}: {event.state}{seconds}", file=sys.stderr, flush=True)

    return on_event


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _beside(command: Sequence[str], log: Path) -> int:
    """Start a process that outlives this one."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
    except OSError as error:
        raise Unavailable(f"cannot start a process beside this one: {error.strerror}") from error
    return process.pid


def _command(verb: str, config: LedgerConfig, attempt: str = "") -> list[str]:
    places = {name: str(value) for name, value in asdict(config).items()}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in places.items()]
    return [sys.executable, "-m", "pipelines.experiments.worker", verb, attempt, *options]


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
