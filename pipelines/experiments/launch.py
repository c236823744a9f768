"""Launching an experiment: sealed first, then run, then scored; every end is written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from components.evaluation.report_schema import REPORT_FILE, REPORT_PAGE
from components.experiments.attempt import Attempt
from components.experiments.journal import enter
from components.experiments.launches import CANCEL_FILE, SLOT_FILE, STEPS_FILE, now
from components.experiments.ledger import Ledger
from components.experiments.locks import attempt_folder, attempt_lock, held
from components.experiments.outcome import Score
from components.experiments.parents import parent_record
from components.experiments.policy_runs import link_policy_run
from components.experiments.resolve import contract_of
from components.experiments.schema import nested
from components.experiments.scoring import SCORE_FILE, read_report, scored
from components.experiments.seal import Seal, seal
from foundation.errors import ConfigurationError, GearshiftError, StepFailed
from foundation.storage import atomic_path
from pipelines.local import StepEvent
from pipelines.training.sealed_run import Inputs, TrainingRun, inputs_here, run_sealed

WORK_FOLDER = "work"


def seal_launch(
    ledger: Ledger,
    experiment: str,
    overrides: Mapping[str, Any] | None = None,
    out: Path | None = None,
    place: str = "here",
    inputs: Inputs | None = None,
    plan: Mapping[str, Any] | None = None,
) -> Attempt:
    """Seal a launch and put it into the queue; nothing runs yet.

    Args:
        ledger: where it is written down.
        experiment: what is launched.
        overrides: what differs from its configuration, by path: where data lie on this machine.
        out: results folder; the launch's own below the ledger without it.
        place: "here" or "cluster".
        inputs: what the run will read, where that is not on this machine.
        plan: of a sweep, what its trials vary.

    Returns:
        The launch, queued.

    Raises:
        NotFound: there is no such experiment.
        ConfigurationError: it has no contract, its configuration is wrong, or its contract names
            figures of a parent that has none.
        StorageError: the seal cannot be written to MLflow or the journal.
    """
    ledger.experiment(experiment)
    contract, owner = contract_of(experiment, ledger.known)
    own = ledger.checked(experiment, {})
    values = ledger.checked(experiment, overrides or {})
    if not values.get("register.tracking_uri", "unset"):
        # The policy is registered where its launch is written down.
        values["register.tracking_uri"] = ledger.records.tracking_uri
    differing = {path: value for path, value in values.items() if value != own[path]}
    configuration = nested(values)
    chosen = configuration["inputs"]
    reads = inputs or inputs_here(chosen["data"], chosen["ladder"], _annotations(configuration))
    parent = parent_record(ledger, contract, owner, reads.versions)
    made: list[Attempt] = []

    def make(name: str) -> tuple[Seal, str]:
        sealed = seal(
            experiment,
            name,
            contract,
            configuration,
            differing,
            reads.source,
            reads.versions,
            now(),
            plan or {},
            parent,
        )
        results = out or attempt_folder(ledger.folder, name)
        attempt = Attempt(
            name,
            experiment,
            "queued",
            place,
            "",
            sealed.sha256,
            str(sealed.content["sealed_at"]),
            author=contract.author,
            objective=contract.objective,
            expected=contract.expected,
            contract_owner=owner,
            out=str(results.resolve()),
            overrides=differing,
        )
        made.append(replace(attempt, run_id=ledger.records.create(attempt, sealed)))
        return sealed, made[0].run_id

    enter(ledger.folder, experiment, make)
    ledger.index.put_attempts(made)
    return made[0]


def _annotations(configuration: Mapping[str, Mapping[str, Any]]) -> str:
    return str(configuration.get("ingest", {}).get("annotations", ""))


def parameter_of(sealed: Seal, run_id: str, tracking_uri: str) -> dict[str, Any]:
    """The pipeline's parameter ``contract``."""
    return {
        "content": dict(sealed.content),
        "sha256": sealed.sha256,
        "run_id": run_id,
        "tracking_uri": tracking_uri,
    }


def launch_here(
    ledger: Ledger,
    attempt: Attempt,
    on_event: Callable[[StepEvent], None] = lambda event: None,
    reuse: bool = True,
) -> TrainingRun:
    """Run a sealed launch on this machine, to its score; a second call goes on where one broke off.

    Steps whose inputs are unchanged are not run again: that is how a killed run resumes, and how
    siblings in the queue share what they have in common.

    Args:
        ledger: where it is written down.
        attempt: queued, interrupted, cancelled or failed.
        on_event: called when a step starts, progresses or ends.
        reuse: whether earlier results may stand in for a step.

    Raises:
        ConfigurationError: it runs already, or has succeeded.
        SealBroken: the seal in MLflow was changed.
        StepFailed: a step failed; the launch records which.
        PipelineError, StorageError: as ``run_sealed``.
    """
    folder = attempt_folder(ledger.folder, attempt.attempt)
    with held(attempt_lock(ledger.folder, attempt.attempt)) as mine:
        if not mine:
            raise ConfigurationError(f"{attempt.attempt} runs already")
        if ledger.index.attempt(attempt.attempt).state == "succeeded":  # perhaps a moment ago
            raise ConfigurationError(
                f"{attempt.attempt} has succeeded; launch the experiment again"
            )
        sealed = ledger.records.seal_of(attempt.run_id)
        (folder / CANCEL_FILE).unlink(missing_ok=True)
        out = Path(attempt.out)
        # Whoever has a results folder of their own keeps the cache there; the queue shares one.
        shared = out == folder.resolve()
        slot: AbstractContextManager[Any] = (
            held(ledger.folder / SLOT_FILE, wait=True) if shared else nullcontext()
        )
        running = replace(
            attempt,
            state="running",
            started_at=now(),
            ended_at="",
            verdict="",
            reason="",
            figures={},
            exit_code=None,
            failing_step="",
        )
        steps: dict[str, StepEvent] = {}

        def on_step(event: StepEvent) -> None:
            known = steps.get(event.step)
            steps[event.step] = event
            if known is None or known.state != event.state:
                _write_steps(folder, steps)
            on_event(event)

        with slot:
            ledger.store(running)
            try:
                run = _run(ledger, sealed, running, out, on_step, reuse, shared)
                ended = _scored(running, out)
            except BaseException as error:
                ledger.store(_failed(running, error, steps, folder))
                raise
            ledger.store(ended)
            ledger.records.attach(ended, (out / REPORT_FILE, out / REPORT_PAGE, out / SCORE_FILE))
            link_policy_run(ledger.records, ended, sealed, out)
    return run


def _run(
    ledger: Ledger,
    sealed: Seal,
    attempt: Attempt,
    out: Path,
    on_step: Callable[[StepEvent], None],
    reuse: bool,
    shared: bool,
) -> TrainingRun:
    configuration = sealed.content["configuration"]
    chosen = configuration["inputs"]
    return run_sealed(
        parameter_of(sealed, attempt.run_id, ledger.records.tracking_uri),
        inputs_here(chosen["data"], chosen["ladder"], _annotations(configuration)),
        {stage: options for stage, options in configuration.items() if stage != "inputs"},
        out,
        on_step,
        reuse,
        ledger.folder / WORK_FOLDER if shared else None,
    )


def _scored(attempt: Attempt, out: Path) -> Attempt:
    found = Score(**json.loads((out / SCORE_FILE).read_text(encoding="utf-8")))
    ended = scored(attempt, found, read_report(out / REPORT_FILE))
    return replace(ended, state="succeeded", ended_at=now(), exit_code=0)


def _failed(
    attempt: Attempt, error: BaseException, steps: Mapping[str, StepEvent], folder: Path
) -> Attempt:
    """How a launch ended that did not succeed; only a failure of its own makes its outcome void."""
    ended = replace(attempt, ended_at=now())
    if isinstance(error, SystemExit | KeyboardInterrupt):
        asked = (folder / CANCEL_FILE).exists()
        code = error.code if isinstance(error, SystemExit) else None
        return replace(
            ended,
            state="cancelled" if asked else "interrupted",
            exit_code=code if isinstance(code, int) else None,
            reason="it was cancelled" if asked else "it was interrupted; resume it",
        )
    step = next((one.step for one in steps.values() if one.state == "failed"), "")
    words = str(error) if isinstance(error, GearshiftError) else f"{type(error).__name__}: {error}"
    if isinstance(error, StepFailed) and not step:
        step = next(reversed(list(steps)), "")
    return replace(
        ended, state="failed", verdict="void", reason=words[:2000], exit_code=1, failing_step=step
    )


def _write_steps(folder: Path, steps: Mapping[str, StepEvent]) -> None:
    with atomic_path(folder / STEPS_FILE) as partial:
        partial.write_text(json.dumps([asdict(one) for one in steps.values()]), encoding="utf-8")
