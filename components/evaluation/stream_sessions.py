"""Each stream session becomes one MLflow run: shares, latencies, savings, shadow accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from components.tracking import check_address, experiment_id, tracking_client
from foundation.errors import ConfigurationError, StorageError
from inference_graph.contract import LADDER
from inference_graph.prediction_log.row import SessionSummary
from inference_graph.prediction_log.session_files import read_sessions

SESSION_TAG = "gearshift.session"
"""Tag that names a run's summary; there is one finished run of each."""
_ABOUT = "Stream sessions of the gateway: `gearshift sessions`."
DEFAULT_EXPERIMENT = "gearshift-sessions"
_PAGE = 1000
_LONGEST = 250
"""Characters of a tag's name or value; every store of MLflow's takes so many."""


def record_sessions(
    log_url: str,
    tracking_uri: str,
    experiment: str = DEFAULT_EXPERIMENT,
    journal: Path | None = None,
) -> int:
    """Make a run of every session in a prediction log that has none yet.

    A run whose recording was cut short is finished, not made again.

    Args:
        log_url: folder or bucket of the prediction log.
        tracking_uri: MLflow's tracking URI.
        experiment: MLflow experiment of the runs; made when missing.
        journal: the log's journal, if it is not the default one.

    Returns:
        How many sessions were recorded by this call.

    Raises:
        ConfigurationError: no usable log url, or no name of an experiment.
        InvalidInput: a summary in the log is broken.
        StorageError: the log or MLflow cannot be reached.
    """
    if not experiment.strip():
        raise ConfigurationError("the experiment has no name; give one")
    check_address(tracking_uri)
    sessions = read_sessions(log_url, journal)
    if not sessions:
        return 0
    # By the client, not by MLflow's fluent calls: those set the stores of the whole process.
    client = tracking_client(tracking_uri)
    recorded = 0
    try:
        place = experiment_id(client, experiment, _ABOUT)
        begun = dict(_runs(client, place))
        for name, summary in sessions.items():
            run_id, finished = begun.get(name, ("", False))
            if not finished:
                _record(client, place, name, summary, run_id)
                recorded += 1
    except MlflowException as error:
        raise StorageError(
            f"MLflow at {tracking_uri} refused a session ({str(error).splitlines()[0]}); check "
            "its address"
        ) from error
    return recorded


def _record(
    client: MlflowClient, experiment: str, name: str, summary: SessionSummary, run_id: str
) -> None:
    start, end = (round(time.timestamp() * 1e3) for time in (summary.started, summary.ended))
    if not run_id:
        tags = {SESSION_TAG: name}
        run = client.create_run(experiment, start, tags, run_name=summary.session)
        run_id = run.info.run_id
    client.log_batch(
        run_id,
        metrics=[
            Metric(key, float(value), end, 0)
            for key, value in _figures(summary)
            if value is not None and math.isfinite(value)
        ],
        params=[
            Param("client", summary.client),
            Param("policy_revision", summary.policy_revision),
            Param("latency_weight", str(summary.latency_weight)),
        ],
        tags=[
            RunTag(f"session.{key}"[:_LONGEST], text[:_LONGEST])
            for key, text in _named(summary.tags)
        ],
    )
    client.set_terminated(run_id, "FINISHED", end)


def _figures(summary: SessionSummary) -> Iterator[tuple[str, float | None]]:
    yield "frames", summary.frames
    yield "dropped", summary.dropped
    yield "fallbacks", summary.fallbacks
    yield "seconds", (summary.ended - summary.started).total_seconds()
    for rung in LADDER:
        yield f"share_{rung}", summary.shares.get(rung, 0.0)
    yield "latency_mean_ms", summary.latency_mean_ms
    yield "latency_p50_ms", summary.latency_p50_ms
    yield "latency_p95_ms", summary.latency_p95_ms
    yield "savings", summary.savings
    yield "shadow_frames", summary.shadow_frames
    yield "agreement_mean", summary.agreement_mean


def _named(tags: object) -> Iterator[tuple[str, str]]:
    """Tags under names MLflow takes; a client may have called them anything."""
    if isinstance(tags, dict):
        for key, text in tags.items():
            yield "".join(mark if mark.isalnum() or mark in "_-. /" else "_" for mark in key), text


def _runs(client: MlflowClient, experiment: str) -> Iterator[tuple[str, tuple[str, bool]]]:
    """(summary, (run, finished)) of every session recorded so far."""
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{SESSION_TAG}` != ''", max_results=_PAGE, page_token=token
        )
        for run in page:
            yield run.data.tags[SESSION_TAG], (run.info.run_id, run.info.status == "FINISHED")
        token = page.token
        if not token:
            return
