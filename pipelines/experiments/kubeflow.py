"""How launches on Kubeflow stand there: followed to their end, looked at, or ended.

No process has to follow one. Each reader of the ledger asks what runs there, within a few seconds'
time, and writes down what has ended since; the figures came from the run itself, in MLflow. KFP's
own client is not used, for importing it takes longer than that look.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.experiments.attempt import Attempt
from components.experiments.launches import cancel, log_of, now
from components.experiments.ledger import Ledger
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, PipelineError, StorageError, Unavailable
from foundation.storage import atomic_path
from inference_graph.control.triggers.kubeflow import RUNNING, SUCCEEDED, KubeflowRuns
from pipelines.placement import PlacementConfig

_LOST = 20
"""A run that is followed counts as lost after so many failed questions in a row."""
_NOTE = "kubeflow"
_EVERY = 5.0
"""Seconds between two looks, whoever looks."""
_LOOK = 2.0
"""Seconds in which a look asks, and that it waits for an answer; the next look does the rest."""
_SILENCE = 60.0
"""Seconds for which a Kubeflow that does not answer is not asked again."""


@configuration
class ClusterConfig:
    """A Kubeflow, and what its pods reach.

    Attributes:
        url: of Kubeflow Pipelines, for example http://ml-pipeline.kubeflow:8888.
        token_file: file with a bearer token; no token without it.
        pods_tracking_uri: address at which pods reach the MLflow of the ledger, for example
            http://mlflow.kubeflow:5000.
        image: container image of every step.
        gpu_image: image of the steps that may use a GPU.
        gpus: GPUs of each step that may use one.
        poll_seconds: how often a run is looked at.
    """

    url: str = ""
    token_file: Path | None = None
    pods_tracking_uri: str = ""
    image: str = PlacementConfig.image
    gpu_image: str = PlacementConfig.gpu_image
    gpus: int = 0
    poll_seconds: Annotated[float, Field(ge=0.01, le=3600)] = 10.0

    @property
    def placement(self) -> PlacementConfig:
        """Where the steps run."""
        return PlacementConfig(image=self.image, gpu_image=self.gpu_image, gpus=self.gpus)

    def runs(self, url: str, timeout: float = 30.0) -> KubeflowRuns:
        """The runs at an address, which may be another one than this.

        The token is for ``url`` alone: an address in a ledger was written by another user.
        """
        mine = url.rstrip("/") == self.url.rstrip("/")
        return KubeflowRuns({"url": url, "token_file": self.token_file if mine else None}, timeout)


def follow(
    ledger: Ledger,
    attempt: Attempt,
    config: ClusterConfig,
    report: Callable[[str], None] = lambda words: None,
) -> Attempt:
    """Wait for a run's end and write it down, its score or the step that failed.

    Args:
        ledger: where it is written down.
        attempt: submitted.
        config: how it is asked for.
        report: called when the run's state changes.

    Raises:
        ConfigurationError: it was never submitted.
        Unavailable, PipelineError: Kubeflow reports nothing of the run any more.
        StorageError: MLflow cannot be read.
    """
    if not attempt.kubeflow_run:
        raise ConfigurationError(
            f"{attempt.attempt} never reached Kubeflow; launch {attempt.experiment} again"
        )
    runs = config.runs(attempt.kubeflow_url)
    shown, lost = "", 0
    while True:
        try:
            run = runs.get(attempt.kubeflow_run)
        except (Unavailable, PipelineError):
            lost += 1
            if lost >= _LOST:
                raise
        else:
            lost = 0
            state = _state(run)
            if state != shown:
                shown = state
                report(f"{attempt.attempt}: {state.lower() or 'not known any more'}")
            if run is None or state not in RUNNING:
                break
        time.sleep(config.poll_seconds)
    ended = _ended(ledger, attempt, run)
    ledger.store(ended)
    return ended


def look(ledger: Ledger, config: ClusterConfig) -> tuple[str, ...]:
    """Write down which launches on Kubeflow have ended, as far as a short look shows.

    Cheap where nothing runs there. Otherwise it asks for one run after the other, begins none after
    two seconds, waits two for each, and does not look again within five; a Kubeflow that does not
    answer is left alone for a minute.

    Args:
        ledger: whose launches.
        config: the token, where the Kubeflow at its address wants one.

    Returns:
        Why some could not be looked at, a sentence for each Kubeflow; nothing is raised, for
        whoever reads the ledger wants to read it.
    """
    running = [one for one in ledger.index.attempts("state = 'running'") if one.kubeflow_run]
    if not running:
        return ()
    note: dict[str, Any] = json.loads(ledger.index.meta(_NOTE) or "{}")
    at = time.time()
    silent: dict[str, Any] = {
        url: [until, why]
        for url, (until, why) in note.get("silent", {}).items()
        if at < until <= at + _SILENCE
    }
    if 0 <= at - note.get("at", 0.0) < _EVERY:
        return _troubles(running, silent)
    # Where the last look had to stop, this one begins.
    names = [one.attempt for one in running]
    start = names.index(note["next"]) if note.get("next") in names else 0
    until = time.monotonic() + _LOOK
    following = ""
    for one in running[start:] + running[:start]:
        if time.monotonic() > until:
            following = one.attempt
            break
        if one.kubeflow_url in silent:
            continue
        try:
            run = config.runs(one.kubeflow_url, _LOOK).get(one.kubeflow_run)
            if run is None or _state(run) not in RUNNING:
                ledger.store(_ended(ledger, one, run))
        except (Unavailable, PipelineError, ConfigurationError) as error:
            silent[one.kubeflow_url] = [at + _SILENCE, str(error)]
        except StorageError as error:
            silent[one.kubeflow_url] = [at + _SILENCE, f"its end cannot be written down: {error}"]
    ledger.index.note(_NOTE, json.dumps({"at": at, "next": following, "silent": silent}))
    return _troubles(running, silent)


def terminate(ledger: Ledger, attempt: Attempt, config: ClusterConfig) -> Attempt:
    """Have Kubeflow end a run.

    Raises:
        Unavailable, PipelineError: Kubeflow does not answer, or refuses.
        StorageError: MLflow cannot be written to.
    """
    if attempt.kubeflow_run:
        config.runs(attempt.kubeflow_url).terminate(attempt.kubeflow_run)
    ended = replace(attempt, state="cancelled", ended_at=now(), reason="it was cancelled")
    ledger.store(ended)
    return ended


def end(ledger: Ledger, attempt: Attempt, config: ClusterConfig) -> Attempt:
    """End a launch that waits or runs, wherever it is; of a sweep, the trial that runs as well.

    Raises:
        ConfigurationError: it has ended already.
        Unavailable, PipelineError: Kubeflow, or its process here, does not end it.
        StorageError: MLflow cannot be written to.
    """
    if attempt.kubeflow_run and attempt.state == "running":
        return terminate(ledger, attempt, config)
    ended = cancel(ledger, attempt)
    for one in ledger.index.attempts("state = 'running'"):
        if one.kubeflow_run and attempt.has_trial(one.experiment):
            terminate(ledger, one, config)
    return ended


def _troubles(running: list[Attempt], silent: Mapping[str, Any]) -> tuple[str, ...]:
    concerned = dict.fromkeys(one.kubeflow_url for one in running)
    return tuple(str(silent[url][1]) for url in concerned if url in silent)


def _state(run: Mapping[str, Any] | None) -> str:
    return str((run or {}).get("state") or "")


def _ended(ledger: Ledger, attempt: Attempt, run: Mapping[str, Any] | None) -> Attempt:
    ended = replace(attempt, ended_at=_finished(run))
    state = _state(run)
    if run is None or state in SUCCEEDED:
        # The pipeline's score step wrote the figures; they are the run's, not this process's.
        record = ledger.records.get(attempt.run_id)
        if record.verdict:
            return replace(
                ended,
                state="succeeded",
                exit_code=0,
                figures=record.figures,
                verdict=record.verdict,
                reason=record.reason,
            )
        if run is None:
            gone = f"Kubeflow has no run {attempt.kubeflow_run} any more, and MLflow no score of it"
            return replace(ended, state="failed", verdict="void", reason=gone)
        words = "the pods wrote no score to MLflow"
        return replace(ended, state="succeeded", exit_code=0, verdict="void", reason=words)
    if state.startswith("CANCEL"):
        return replace(ended, state="cancelled", reason="it was cancelled on Kubeflow")
    details = (run.get("run_details") or {}).get("task_details") or ()
    failed = [task for task in details if task.get("state") == "FAILED"]
    # The tasks around it fail with it: the pipeline itself, the branches of its gate.
    inner = [task for task in failed if not task.get("child_tasks")] or failed
    step = str(inner[0].get("display_name") or "") if inner else ""
    reason = _message(inner[0] if inner else run) or state.lower()
    if step:
        with atomic_path(log_of(attempt, step)) as partial:
            partial.write_text(reason + "\n", encoding="utf-8")
    words = f"step {step} failed: {reason}" if step else reason
    return replace(
        ended, state="failed", verdict="void", reason=words[:2000], failing_step=step, exit_code=1
    )


def _finished(run: Mapping[str, Any] | None) -> str:
    """When a run ended, as the ledger writes it; the time of the look where Kubeflow knows none."""
    try:
        at = datetime.fromisoformat(str((run or {}).get("finished_at")))
    except ValueError:
        return now()
    # Zero means "never" in its API.
    return now() if at.year < 2000 else at.astimezone(UTC).isoformat(timespec="milliseconds")


def _message(state: Mapping[str, Any]) -> str:
    error = state.get("error")
    return " ".join(str(error.get("message") or "").split()) if isinstance(error, Mapping) else ""
