"""The training pipeline on this machine under a sealed contract, and its results in one folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.coco2017 import names_coco2017
from components.data.picture_files import link_or_copy
from components.data.source_check import check_source
from components.data.versions import named_version, pinned_source
from components.drift.reference import REFERENCE_FILE
from components.evaluation.gate import GATE_FILE
from components.evaluation.report_schema import REPORT_FILE, REPORT_PAGE, load_report
from components.evaluation.report_tables import add_gate
from components.experiments.launches import LOGS_FOLDER
from components.experiments.scoring import SCORE_FILE
from components.policy.files import POLICY_FILE
from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from pipelines.ladder_files import ladder_files
from pipelines.local import StepEvent, run_locally
from pipelines.options import to_json
from pipelines.placement import PlacementConfig
from pipelines.training.parameters import arguments_of
from pipelines.training.pipeline import training_pipeline
from pipelines.versions import code_version, data_version, ladder_version

RUN_FILE = "run.json"
WORK_FOLDER = "work"

_RESULTS = {
    "validation": "validation",
    "parts": "split.json",
    "timings": "timings.json",
    "replay": "replay",
    "policies": "policies",
    "reference": REFERENCE_FILE,
    "evaluation": "",
    "checklist": "",
    "score": SCORE_FILE,
}
"""Where a pipeline output goes in the results folder; an empty name spreads a folder's files."""


@dataclass(frozen=True)
class TrainingRun:
    """What a run of the training pipeline came to.

    Attributes:
        out: results folder: report.html, report.json, policy.onnx, gate.json, ...
        outcome: one sentence: registered as what, or why not.
        passed: whether the policy passed the gate.
        dataset: canonical data set folder that ingest made.
        detections: folder with each rung's raw detections.
        seconds: wall time of each step; 0 where an earlier result stood in.
    """

    out: Path
    outcome: str
    passed: bool
    dataset: Path
    detections: Mapping[str, Path]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Inputs:
    """What a run reads, and the versions that name it.

    Attributes:
        source: COCO-format folder, zip or URL; empty for the sample scenes.
        ladder: folder of the rungs' weights.
        versions: of code, data and ladder, as the pipeline's parameters are called.
    """

    source: str
    ladder: str
    versions: Mapping[str, str]


def local_source(source: str) -> str:
    """A source as it is called from any folder: a path is made absolute, all else stays.

    Of a stored version the whole id is named, so that ``latest`` means the same in every step.
    """
    if named_version(source):
        return pinned_source(source)
    if not source or "://" in source or names_coco2017(source):
        return source
    return str(Path(source).expanduser().resolve())


def inputs_here(source: str, ladder: str, annotations: str = "") -> Inputs:
    """What a run on this machine reads.

    Args:
        source: COCO-format folder, zip or URL, or ``coco2017``; empty renders the sample scenes.
        ladder: folder of the rungs' weights, or ``coco``; empty takes the sample ladder.
        annotations: name of the annotation file; needed where there are several.

    Raises:
        ConfigurationError: no such ladder.
        AnnotationError, InvalidInput: the source cannot be read, or Ultralytics' weights were
            asked for and cannot be fetched.
    """
    source = local_source(source)
    check_source(source, annotations)
    files = ladder_files(ladder)
    versions = {
        "code_version": code_version(),
        "data_version": data_version(source),
        "ladder_version": ladder_version(files),
    }
    return Inputs(source, str(files["nano"].parent.resolve()), versions)


def run_sealed(
    contract: Mapping[str, Any],
    inputs: Inputs,
    options: Mapping[str, Mapping[str, Any]],
    out: Path,
    on_event: Callable[[StepEvent], None] = lambda event: None,
    reuse: bool = True,
    work: Path | None = None,
) -> TrainingRun:
    """Run the training pipeline and collect its results.

    Args:
        contract: the pipeline's parameter of that name; it refuses a run without one.
        inputs: what is read.
        options: of every stage.
        out: results folder; artifacts, cache and logs lie below it too.
        on_event: called when a step starts, progresses or ends.
        reuse: whether results of an earlier run may stand in for a step.
        work: folder of artifacts and cache, where it is not below ``out``.

    Raises:
        StepFailed: a step failed; names it and its error.
        StorageError: the results cannot be written.
    """
    arguments = {
        "source": inputs.source,
        "ladder": inputs.ladder,
        **inputs.versions,
        "registry_folder": str(out.resolve()),
        "contract": dict(contract),
        **arguments_of(options),
    }
    run = run_locally(
        training_pipeline(PlacementConfig(retries=0)),
        arguments,
        work or out / WORK_FOLDER,
        out / LOGS_FOLDER,
        on_event,
        reuse,
    )
    for output, name in _RESULTS.items():
        _collect(Path(run.outputs[output].path), out, name)
    _collect(out / "policies" / POLICY_FILE, out, POLICY_FILE)
    _add_gate(out)
    result = TrainingRun(
        out=out,
        outcome=str(run.outputs["outcome"]),
        passed=bool(run.outputs["passed"]),
        dataset=Path(run.outputs["dataset"].path),
        detections={rung: Path(run.outputs[rung].path) for rung in LADDER},
        seconds={step.step: round(step.seconds, 2) for step in run.steps},
    )
    with atomic_path(out / RUN_FILE) as file:
        record = {
            "result": to_json(result),
            # What two runs are compared by; the seal holds it all once more.
            "arguments": {
                "source": inputs.source,
                "ladder": inputs.ladder,
                **inputs.versions,
                **options,
            },
            "contract": {name: contract.get(name) for name in ("sha256", "run_id", "tracking_uri")},
        }
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return result


def _collect(artifact: Path, out: Path, name: str) -> None:
    """Link an artifact, or the files of a folder, into the results."""
    if not name:
        for file in artifact.iterdir():
            _collect(file, out, file.name)
        return
    with atomic_path(out / name) as partial:
        if artifact.is_dir():
            shutil.copytree(artifact, partial, copy_function=_link)
        else:
            link_or_copy(artifact, partial)


def _link(source: str, target: str) -> None:
    link_or_copy(Path(source), Path(target))


def _add_gate(out: Path) -> None:
    """Write the gate's verdict into the report and its page, so that one file holds everything."""
    verdict = json.loads((out / GATE_FILE).read_text(encoding="utf-8"))
    whole = load_report(out / REPORT_FILE).model_copy(update={"gate": verdict})
    # A new file: the artifact it was linked to stays as it is.
    with atomic_path(out / REPORT_FILE) as partial:
        partial.write_text(whole.to_json(), encoding="utf-8")
    add_gate(out / REPORT_PAGE, verdict)
