"""Launching on Kubeflow: the same pipeline, compiled, submitted with its sealed contract.

Kubeflow queues and runs it; its last step but one scores it and writes to MLflow, so the cluster's
pods have to reach the MLflow server in which it was sealed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import kfp
from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]  # ships no types
from urllib3.exceptions import HTTPError

from components.experiments.attempt import Attempt
from components.experiments.ledger import Ledger
from components.experiments.resolve import plain
from feature_transformer.errors import ConfigurationError, PipelineError, Unavailable
from feature_transformer.ranges import check_range
from feature_transformer.storage import atomic_path
from inference_graph.triggers.kubeflow import RUNNING, SUCCEEDED
from pipelines.experiment_launch import log_of, now, parameter_of, seal_launch
from pipelines.ladder_files import SAMPLE_LADDER, ladder_files
from pipelines.placement import PlacementConfig
from pipelines.sealed_run import Inputs
from pipelines.training import compile_pipeline
from pipelines.versions import code_version, data_version, ladder_version

_KUBEFLOW_EXPERIMENT = "gearshift"
_LOST = 20
"""So many times in a row nobody has to answer before a run counts as lost."""


@dataclass(frozen=True)
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
    poll_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_range(self, 0.01, 3600, "poll_seconds")

    @property
    def placement(self) -> PlacementConfig:
        """Where the steps run."""
        return PlacementConfig(image=self.image, gpu_image=self.gpu_image, gpus=self.gpus)


def seal_for(
    config: ClusterConfig, ledger: Ledger, experiment: str, plan: Mapping[str, Any] | None = None
) -> Attempt:
    """Seal a launch that Kubeflow is to run; nothing is sent yet.

    Raises:
        NotKnown: there is no such experiment.
        ConfigurationError: it has no contract, reads a folder of this machine, or the cluster
            could not write its score to MLflow.
        StorageError: the seal cannot be written.
    """
    if not config.url:
        raise ConfigurationError(
            "no Kubeflow is named; give --url (of `run`) or --kubeflow-url (of `serve`)"
        )
    if not config.pods_tracking_uri.startswith(("http://", "https://")):
        raise ConfigurationError(
            "pods could not write the score down; give --pods-tracking-uri, an address of MLflow's "
            "server that they reach"
        )
    values = plain(ledger.resolved(experiment))
    source, ladder = str(values["inputs.data"]), str(values["inputs.ladder"])
    if source and Path(source).expanduser().exists():
        raise ConfigurationError(f"{source} is a place on this machine; pods need a URL")
    versions = {
        "code_version": code_version(),
        "data_version": data_version(source),
        "ladder_version": ladder or ladder_version(ladder_files(SAMPLE_LADDER)),
    }
    overrides = {}
    if not values["register.tracking_uri"]:
        # A pod has no folder that outlives it.
        overrides["register.tracking_uri"] = config.pods_tracking_uri
    return seal_launch(
        ledger, experiment, overrides, place="cluster", inputs=Inputs(source, ladder, versions),
        plan=plan,
    )  # fmt: skip


def submit(ledger: Ledger, attempt: Attempt, config: ClusterConfig) -> Attempt:
    """Hand a sealed launch to Kubeflow; returns at once.

    Raises:
        SealBroken: the seal in MLflow was changed.
        Unavailable: no Kubeflow answers.
        PipelineError: Kubeflow refuses the run.
        StorageError: MLflow cannot be written to.
    """
    sealed = ledger.records.seal_of(attempt.run_id)
    configuration = sealed.content["configuration"]
    arguments = {
        "source": sealed.content["source"],
        "ladder": configuration["inputs"]["ladder"],
        **sealed.content["versions"],
        "contract": parameter_of(sealed, attempt.run_id, config.pods_tracking_uri),
        **{stage: options for stage, options in configuration.items() if stage != "inputs"},
    }
    try:
        client = _client(config)
        with tempfile.TemporaryDirectory() as folder, _asked(config.url):
            file = Path(folder, "training.yaml")
            file.write_text(_compiled(config.placement), encoding="utf-8")
            answer = client.create_run_from_pipeline_package(
                str(file), arguments, run_name=attempt.attempt, experiment_name=_KUBEFLOW_EXPERIMENT
            )
    except (Unavailable, PipelineError) as error:
        ledger.store(
            replace(attempt, state="failed", verdict="void", reason=str(error), ended_at=now())
        )
        raise
    submitted = replace(
        attempt, state="running", started_at=now(), kubeflow_run=str(answer.run_id),
        kubeflow_url=config.url.rstrip("/"),
    )  # fmt: skip
    ledger.store(submitted)
    return submitted


@cache
def _compiled(placement: PlacementConfig) -> str:
    """The pipeline's YAML; the trials of a sweep share it."""
    with tempfile.TemporaryDirectory() as folder:
        return compile_pipeline(placement, Path(folder)).read_text(encoding="utf-8")


def follow(
    ledger: Ledger,
    attempt: Attempt,
    config: ClusterConfig,
    tell: Callable[[str], None] = lambda words: None,
) -> Attempt:
    """Wait for a run's end and write it down, its score or the step that failed.

    Args:
        ledger: where it is written down.
        attempt: submitted.
        config: how it is asked for.
        tell: called when the run's state changes.

    Raises:
        Unavailable: Kubeflow says nothing of the run any more.
        StorageError: MLflow cannot be read.
    """
    client = _client(replace(config, url=attempt.kubeflow_url))
    said, lost = "", 0
    while True:
        try:
            with _asked(attempt.kubeflow_url):
                run = client.get_run(attempt.kubeflow_run)
            lost = 0
        except (Unavailable, PipelineError):
            lost += 1
            if lost >= _LOST:
                raise
            run = None
        state = str(getattr(run, "state", None) or "")
        if state and state != said:
            said = state
            tell(f"{attempt.attempt}: {state.lower()}")
        if run is not None and state not in RUNNING:
            break
        time.sleep(config.poll_seconds)
    ended = _ended(ledger, attempt, run, state)
    ledger.store(ended)
    return ended


def terminate(ledger: Ledger, attempt: Attempt, config: ClusterConfig) -> Attempt:
    """Have Kubeflow end a run; raises as ``follow``."""
    if attempt.kubeflow_run:
        with _asked(attempt.kubeflow_url):
            _client(replace(config, url=attempt.kubeflow_url)).terminate_run(attempt.kubeflow_run)
    ended = replace(attempt, state="cancelled", ended_at=now(), reason="it was cancelled")
    ledger.store(ended)
    return ended


def _ended(ledger: Ledger, attempt: Attempt, run: Any, state: str) -> Attempt:
    ended = replace(attempt, ended_at=now())
    if state in SUCCEEDED:
        # The pipeline's score step wrote the figures; they are the run's, not this process's.
        told = ledger.records.get(attempt.run_id)
        ended = replace(ended, state="succeeded", exit_code=0, figures=told.figures)
        if told.verdict:
            return replace(ended, verdict=told.verdict, reason=told.reason)
        return replace(ended, verdict="void", reason="the pods wrote no score to MLflow")
    if state.startswith("CANCEL"):
        return replace(ended, state="cancelled", reason="it was cancelled on Kubeflow")
    details = getattr(getattr(run, "run_details", None), "task_details", None) or ()
    failed = [task for task in details if str(task.state) == "FAILED"]
    # The tasks around it fail with it: the pipeline itself, the branches of its gate.
    inner = [task for task in failed if not getattr(task, "child_tasks", None)] or failed
    step = str(inner[0].display_name) if inner else ""
    reason = _message(inner[0] if inner else run) or state.lower()
    if step:
        with atomic_path(log_of(attempt, step)) as partial:
            partial.write_text(reason + "\n", encoding="utf-8")
    words = f"step {step} failed: {reason}" if step else reason
    return replace(
        ended, state="failed", verdict="void", reason=words[:2000], failing_step=step, exit_code=1
    )


def _message(told: Any) -> str:
    error = getattr(told, "error", None)
    return " ".join(str(getattr(error, "message", None) or "").split())


def _client(config: ClusterConfig) -> kfp.Client:
    token = None
    if config.token_file is not None:
        try:
            token = config.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(
                f"cannot read the token in {config.token_file}; check the path"
            ) from error
    with _asked(config.url):
        return kfp.Client(host=config.url, existing_token=token)


@contextmanager
def _asked(url: str) -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        body = " ".join(str(error.body or error.reason).split())[:200]
        raise PipelineError(f"Kubeflow at {url} answers {error.status}: {body}") from error
    except (HTTPError, OSError) as error:
        raise Unavailable(
            f"no Kubeflow Pipelines answers at {url} ({type(error).__name__}); check --url"
        ) from error
