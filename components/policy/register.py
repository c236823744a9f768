"""Registration: the run, its learning curves and its policy in MLflow; only past the gate."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.onnx
import onnx
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException

from components.drift.reference import REFERENCE_FILE
from components.evaluation.gate import GATE_FILE, GATE_PAGE
from components.evaluation.learned_frames import FRAMES_FILE
from components.evaluation.report_schema import REPORT_FILE, REPORT_PAGE
from components.evaluation.report_tables import percent
from components.policy.files import LOG_FILE, POLICY_FILE
from components.policy.registry_marks import RELEASED_ALIAS
from components.profiling.machine import library_versions
from components.tracking import (
    NOTE_TAG,
    SQLITE,
    database_beside,
    experiment_id,
    tracking_client,
)
from foundation.errors import GateRefused, InvalidInput, StorageError
from foundation.storage import atomic_path

REGISTRATION_FILE = "registration.json"
RESULTS_TAG = "gearshift.results"
"""Tag of a run: the results folder of the pipeline."""
_ABOUT_RUNS = "Policies of the training pipeline, passed or refused by the gate."
_ABOUT_MODEL = "Chooses the detector for each frame. The alias `released` names the version in use."
DATA_TAG = "data_sha256"
"""Tag of a registered version: the data set, which ``gearshift data checkout`` takes as a name."""
VERSION_TAG = "data_version"
"""Tag of a registered version: the stored version of the data, STORE@ID."""
VERSION_TAGS = ("retained", "latency_ratio", "gap_share", "latency_weight")
"""Figures of the report that a registered version carries as tags."""


@dataclass(frozen=True)
class RegisterConfig:
    """Where runs and policies are kept.

    Attributes:
        tracking_uri: MLflow's tracking URI; empty means ``mlflow.db`` in the folder around the
            one that the pipeline writes to, which all runs share.
        experiment: MLflow experiment of the runs.
        model_name: name of the policy in MLflow's model registry.
    """

    tracking_uri: str = ""
    experiment: str = "gearshift"
    model_name: str = "gearshift-policy"


@dataclass(frozen=True)
class RegisterSummary:
    """The registered version; ``version`` is empty for a run that was only logged."""

    run_id: str
    name: str
    version: str
    tracking_uri: str


def log_run(
    policies: Path, report: Path, gate: Path, out: Path, config: RegisterConfig
) -> RegisterSummary:
    """Log a run, refused or not, with its parameters, figures, learning curves and pages.

    Args:
        policies: folder of the refine stage.
        report: folder of the evaluate stage.
        gate: folder of the gate stage.
        out: folder of the registration, in the results folder beside which the default tracking
            database lies.
        config: where to log.

    Returns:
        The run, with no version.

    Raises:
        InvalidInput: an artifact is missing.
        StorageError: MLflow cannot be reached or written to.
    """
    figures, verdict = _read(report / REPORT_FILE), _read(gate / GATE_FILE)
    uri = config.tracking_uri or database_beside(out.parent)
    try:
        client = tracking_client(uri)
        results = out.resolve().parent
        # Those of a database file lie beside it; a server decides for itself.
        database = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
        artifacts = None if database is None else database.parent / "mlartifacts"
        experiment = experiment_id(client, config.experiment, _ABOUT_RUNS, artifacts)
        outcome = "passed" if verdict["passed"] else "refused"
        run = client.create_run(
            experiment,
            run_name=f"{results.name} policy",
            tags={"gate": outcome, RESULTS_TAG: str(results), NOTE_TAG: _card(figures)},
        )
        run_id = run.info.run_id
        for key, value in _parameters(figures):
            client.log_param(run_id, key, value)
        metrics = [*_headline(figures), *_learning_curves(policies)]
        for start in range(0, len(metrics), 1000):  # MLflow takes a thousand at a time
            client.log_batch(run_id, metrics=metrics[start : start + 1000])
        for path in (
            report / REPORT_FILE,
            report / REPORT_PAGE,
            gate / GATE_FILE,
            gate / GATE_PAGE,
            policies / POLICY_FILE,
            *(path for path in (report / FRAMES_FILE,) if path.is_file()),
        ):
            client.log_artifact(run_id, str(path))
        if digest := figures["data"].get("sha256"):
            client.log_inputs(run_id, [_data_set(digest)])
        client.set_terminated(run_id)
    except MlflowException as error:
        raise StorageError(
            f"MLflow at {uri} refused the run ({str(error).splitlines()[0]}); "
            "check register.tracking_uri"
        ) from error
    return RegisterSummary(run_id, config.model_name, "", uri)


def register(
    policies: Path,
    report: Path,
    gate: Path,
    out: Path,
    config: RegisterConfig,
    reference: Path | None = None,
) -> RegisterSummary:
    """Log the run and register its policy as a new version, with a card.

    Args:
        policies: folder of the refine stage.
        report: folder of the evaluate stage.
        gate: folder of the gate stage.
        out: folder to write: ``registration.json``.
        config: where to register.
        reference: the drift reference; it is stored beside the policy.

    Returns:
        The registered version.

    Raises:
        GateRefused: the gate did not pass this policy; nothing is registered.
        InvalidInput: an artifact is missing.
        StorageError: MLflow cannot be reached or written to.
    """
    verdict = _read(gate / GATE_FILE)
    if verdict.get("passed") is not True:
        failed = [check["name"] for check in verdict.get("checks", ()) if not check["passed"]]
        raise GateRefused(
            f"the gate refused this policy ({', '.join(failed) or 'no checklist'}); "
            f"see {gate / GATE_PAGE}"
        )
    logged = log_run(policies, report, gate, out, config)
    figures = _read(report / REPORT_FILE)
    # By the client, not by MLflow's fluent calls: those set the stores of the whole process.
    client = tracking_client(logged.tracking_uri)
    try:
        with tempfile.TemporaryDirectory() as folder:
            mlflow.onnx.save_model(
                onnx.load(str(policies / POLICY_FILE)),
                f"{folder}/policy",
                # One file, for a server refuses tensors that lie elsewhere.
                save_as_external_data=False,
                # With it, MLflow need not load the policy in another process to find out.
                pip_requirements=_requirements(),
            )
            if reference is not None:
                shutil.copyfile(reference, f"{folder}/policy/{REFERENCE_FILE}")
            client.log_artifacts(logged.run_id, f"{folder}/policy", "policy")
        if not client.search_registered_models(f"name = '{config.model_name}'"):
            client.create_registered_model(
                config.model_name, {"task": "detector routing"}, _ABOUT_MODEL
            )
        tags = {key: repr(figures[key]) for key in VERSION_TAGS}
        version = client.create_model_version(
            config.model_name,
            f"{client.get_run(logged.run_id).info.artifact_uri}/policy",
            logged.run_id,
            tags={**tags, "sha256": figures["policy"]["sha256"], **_data_tag(figures)},
            description=_card(figures),
        )
        number = str(version.version)
        if RELEASED_ALIAS not in client.get_registered_model(config.model_name).aliases:
            client.set_registered_model_alias(config.model_name, RELEASED_ALIAS, number)
    except MlflowException as error:
        raise StorageError(
            f"MLflow at {logged.tracking_uri} refused the policy "
            f"({str(error).splitlines()[0]}); check register.tracking_uri"
        ) from error
    summary = RegisterSummary(logged.run_id, config.model_name, number, logged.tracking_uri)
    with atomic_path(out) as folder:
        folder.mkdir(parents=True)
        (folder / REGISTRATION_FILE).write_text(json.dumps(summary.__dict__) + "\n", "utf-8")
    return summary


def _data_set(digest: str) -> DatasetInput:
    """The version of the data, as MLflow lists what a run was made from."""
    # MLflow takes 36 characters of a digest at most; the source has all of them.
    data = Dataset("gearshift-data", digest[:36], "gearshift", json.dumps({"sha256": digest}))
    return DatasetInput(data, [InputTag("mlflow.data.context", "training")])


def _data_tag(figures: Mapping[str, Any]) -> dict[str, str]:
    digest = figures["data"].get("sha256")
    version = figures["data"].get("version")
    return ({DATA_TAG: digest} if digest else {}) | ({VERSION_TAG: version} if version else {})


def _requirements() -> list[str]:
    """What it takes to run a policy, in the versions it was checked with."""
    found = library_versions()
    runtimes = [name for name in found if name.startswith("onnxruntime")]
    return [f"onnx=={onnx.__version__}", *(f"{name}=={found[name]}" for name in runtimes)]


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is missing or broken; run the stage before again") from error
    return content


def _parameters(figures: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for stage in ("config", "data"):
        for key, value in figures[stage].items():
            yield f"{stage}.{key}", value
    yield "latency_weight", figures["latency_weight"]
    yield "policy_sha256", figures["policy"]["sha256"]


def _headline(figures: Mapping[str, Any]) -> list[Metric]:
    named = {key: figures[key] for key in ("retained", "latency_ratio", "gap_share")}
    named |= {
        "mean_gap_share": figures["mean_gap_share"]["value"],
        "certified": figures["certified"],
        "lift_over_hull": figures["lift"]["over_hull"]["value"],
        "lift_over_hull_low": figures["lift"]["over_hull"]["low"],
        "lift_over_rule": figures["lift"]["over_rule"]["value"],
        "lift_over_rule_low": figures["lift"]["over_rule"]["low"],
    }
    named |= {f"apgr_{name}": value for name, value in figures["apgr"].items()}
    named |= {f"router_{name}_ms": value for name, value in figures["router_ms"].items()}
    named |= {f"retained_{name}": row["retained"] for name, row in figures["scene_types"].items()}
    return [Metric(name, value, 0, 0) for name, value in named.items() if value is not None]


def _learning_curves(policies: Path) -> list[Metric]:
    """Reward, KL to the clone, entropy and explained variance of every seed by camera step."""
    metrics = []
    for path in sorted(policies.glob(f"seed-*/{LOG_FILE}")):
        seed = path.parent.name.replace("-", "_")
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                step = int(float(row.pop("timesteps")))
                metrics += [
                    Metric(f"{seed}_{name}", float(value), 0, step) for name, value in row.items()
                ]
    return metrics


def _with_interval(estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate[end] for end in ("value", "low", "high"))
    if value is None or low is None:
        return "not measured"
    return f"{value:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"


def _card(figures: Mapping[str, Any]) -> str:
    data = figures["data"]
    return "\n".join(
        [
            "# Gearshift policy",
            "",
            f"- keeps {percent(figures['retained'])} of large's mAP50-95 at "
            f"{figures['latency_ratio']:.1%} of its mean latency, the router included, on "
            f"{data['frames']['judge']} held-out frames of {data['clips']['judge']} clips"
            + (", on which large finds nothing" if figures["retained"] is None else ""),
            f"- accuracy retained above the fixed rungs and their random mixes: "
            f"{_with_interval(figures['lift']['over_hull'])}",
            f"- above the best rule ({figures['lift']['rule']}): "
            f"{_with_interval(figures['lift']['over_rule'])}",
            f"- share of the gap between random mixes and the oracle: {figures['gap_share']:.2f}"
            if figures["gap_share"] is not None
            else "- there was no gap between random mixes and the oracle at its latency",
            f"- operating point: latency weight {figures['latency_weight']:.4f}",
            f"- learned from {data['frames']['learn']} frames of {data['clips']['learn']} clips",
            *([f"- SHA-256 of their data set: {data['sha256']}"] if data.get("sha256") else []),
            *([f"- Version of it: {data['version']}"] if data.get("version") else []),
            f"- SHA-256 of the file: {figures['policy']['sha256']}",
        ]
    )
