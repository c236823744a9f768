"""The drift pipeline: a window of the log, held against what the policy was trained on.

::

    window ─ compare ─┬─ drift hurts: retrain
                      └─ else: note

It runs every six hours on a cluster (``pipelines.drift.schedule``), on demand, and on
triggers. One definition serves the cluster and this machine, like the training pipeline's.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.drift.config import DriftConfig
from components.drift.window import WindowConfig
from pipelines.definition import described
from pipelines.drift import steps as monitoring_steps
from pipelines.options import defaults_of, describe
from pipelines.placement import PlacementConfig, place

NAME = "gearshift-monitoring"

_DESCRIPTION = "Has what the policy sees changed, does that hurt, and a new policy if so."
_WINDOW, _DRIFT = defaults_of(WindowConfig), defaults_of(DriftConfig)
_NOTHING: dict = {}
_PARAMETERS = {
    "log": "folder or bucket of the prediction log.",
    "reference": "reference.parquet that the policy's training run left, or a prediction log.",
    "champion": "the policy in use, an ONNX file; a challenger has to beat it.",
    "data": "what it was trained on: COCO-format folder, zip or URL; empty where it lies in the "
    "folder of its run.",
    "ladder": "folder with the rungs' weights; empty takes the sample ladder.",
    "results_folder": "where state and report are left for the dashboard; nowhere without it.",
    "code_version": "names the code that runs.",
    "window": f"which answers are examined. {describe(WindowConfig)}",
    "drift": f"how they are compared. {describe(DriftConfig)}",
    "retrain": "options of gearshift retrain, where they differ from the defaults.",
    "training": "options of the training pipeline by stage, likewise.",
}


class DriftOutputs(NamedTuple):
    """What a run hands back."""

    outcome: str
    harmful: bool
    findings: dsl.Artifact


def monitoring_pipeline(placement: PlacementConfig) -> BaseComponent:
    """Define the pipeline for a place to run.

    Args:
        placement: images and retries of the steps.
    """

    def monitoring(
        log: str,
        reference: str,
        champion: str = "",
        data: str = "",
        ladder: str = "",
        results_folder: str = "",
        code_version: str = "",
        window: dict = _WINDOW,
        drift: dict = _DRIFT,
        retrain: dict = _NOTHING,
        training: dict = _NOTHING,
    ) -> DriftOutputs:
        read = monitoring_steps.window(
            log=log, options=window, drift=drift, code_version=code_version
        )
        place(read, "window", placement)
        compared = monitoring_steps.compare(
            log=log,
            reference=reference,
            rows=read.outputs["rows"],
            window=window,
            options=drift,
            results_folder=results_folder,
            code_version=code_version,
        )
        place(compared, "compare", placement)
        findings, harmful = compared.outputs["findings"], compared.outputs["Output"]
        with dsl.If(harmful == True, name="harmful"):  # noqa: E712  # KFP overloads the operator
            trained = monitoring_steps.retrain(
                log=log,
                window=window,
                champion=champion,
                data=data,
                ladder=ladder,
                options=retrain,
                training=training,
                findings=findings,
                results_folder=results_folder,
            )
            place(trained, "retrain", placement)
        # As in the training pipeline: without the other branch a condition that the local runner
        # cannot evaluate would look the same as one that is false.
        with dsl.Else(name="harmless"):
            noted = monitoring_steps.note(findings=findings)
            place(noted, "note", placement)
        return DriftOutputs(
            outcome=dsl.OneOf(trained.outputs["Output"], noted.output),
            harmful=harmful,
            findings=findings,
        )

    return described(monitoring, NAME, _DESCRIPTION, _PARAMETERS)
