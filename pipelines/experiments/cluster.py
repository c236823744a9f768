"""Launching on Kubeflow: the same pipeline, compiled, submitted with its sealed contract.

Kubeflow queues and runs it; its last step but one scores it and writes to MLflow, so the cluster's
pods have to reach the MLflow server in which it was sealed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import kfp
from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]  # ships no types
from urllib3.exceptions import HTTPError

from components.experiments.attempt import Attempt
from components.experiments.launches import now
from components.experiments.ledger import Ledger
from components.experiments.resolve import plain
from foundation.errors import ConfigurationError, PipelineError, Unavailable
from pipelines.definition import write_pipeline
from pipelines.experiments.kubeflow import ClusterConfig
from pipelines.experiments.launch import parameter_of, seal_launch
from pipelines.ladder_files import SAMPLE_LADDER, ladder_files
from pipelines.placement import PlacementConfig
from pipelines.training.parameters import arguments_of
from pipelines.training.pipeline import training_pipeline
from pipelines.training.sealed_run import Inputs
from pipelines.versions import code_version, data_version, ladder_version

_KUBEFLOW_EXPERIMENT = "gearshift"


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
    return _seal(ledger, experiment, config.pods_tracking_uri, plan)


def sealed_parameter(
    ledger: Ledger, experiment: str, pods_tracking_uri: str
) -> tuple[Attempt, dict[str, Any]]:
    """Seal a launch that is started in the Kubeflow UI.

    Args:
        ledger: where it is written down.
        experiment: its name.
        pods_tracking_uri: address at which pods reach the ledger's MLflow.

    Returns:
        The launch, and the value of the pipeline's parameter ``contract``; alone it is enough, for
        arguments at their defaults take what was sealed.

    Raises:
        NotKnown, ConfigurationError, StorageError: as ``seal_for``.
    """
    attempt = _seal(ledger, experiment, pods_tracking_uri, None)
    sealed = ledger.records.seal_of(attempt.run_id)
    return attempt, parameter_of(sealed, attempt.run_id, pods_tracking_uri)


def _seal(
    ledger: Ledger, experiment: str, pods_tracking_uri: str, plan: Mapping[str, Any] | None
) -> Attempt:
    if not pods_tracking_uri.startswith(("http://", "https://")):
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
        overrides["register.tracking_uri"] = pods_tracking_uri
    return seal_launch(
        ledger,
        experiment,
        overrides,
        place="cluster",
        inputs=Inputs(source, ladder, versions),
        plan=plan,
    )


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
        **arguments_of(configuration),
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
        attempt,
        state="running",
        started_at=now(),
        kubeflow_run=str(answer.run_id),
        kubeflow_url=config.url.rstrip("/"),
    )
    ledger.store(submitted)
    return submitted


@cache
def _compiled(placement: PlacementConfig) -> str:
    """The pipeline's YAML; the trials of a sweep share it."""
    with tempfile.TemporaryDirectory() as folder:
        return write_pipeline(training_pipeline(placement), Path(folder)).read_text("utf-8")


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
