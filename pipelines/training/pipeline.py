"""The training pipeline: from data to a registered policy, or to a refusal with its reasons.

::

    admit ─ ingest ─ validate ─ spot check ─┬─ split ───────────────────────┐
                                            ├─ observe ─────────────────────┤
                                            ├─ profile (nano, small, large) ┤
                                            └─ time ────────────────────────┘
                                                                            │
    gate, score ─ evaluate ─ refine ─ clone ─ label ────────────────────────┘
      └─ passed: register · else: refuse

``admit`` seals the run, or checks the seal that it was given, before anything is read
(``pipelines.training.admission``); ``score`` reports whether what the contract promises came about.
``compare_rungs`` runs every network of the ladder at every size that might replace a rung; the gate
shows what it found as warnings.
Beside evaluate, ``reference`` keeps what the policy's log would hold of these frames: drift is
measured against it. One definition serves the cluster (``write_pipeline``) and this machine
(``pipelines.local``). What people change has a parameter of its own, the rest is in ``settings``
(``pipelines.training.parameters``).
"""

import inspect
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from inference_graph.contract import LADDER
from pipelines.placement import PlacementConfig, place
from pipelines.training import contract_steps, data_steps, policy_steps
from pipelines.training.parameters import PLAIN, flat_parameters, parameter_texts

NAME = "gearshift-training"

_DESCRIPTION = "From annotated images to a routing policy that passed its gate, registered."


class TrainingOutputs(NamedTuple):
    """What a run hands back."""

    outcome: str
    passed: bool
    dataset: dsl.Dataset
    validation: dsl.Artifact
    parts: dsl.Artifact
    timings: dsl.Artifact
    nano: dsl.Dataset
    small: dsl.Dataset
    large: dsl.Dataset
    replay: dsl.Dataset
    policies: dsl.Model
    reference: dsl.Dataset
    evaluation: dsl.Artifact
    checklist: dsl.Artifact
    score: dsl.Artifact


def training_pipeline(placement: PlacementConfig) -> BaseComponent:
    """Define the pipeline for a place to run.

    Args:
        placement: images, GPUs and retries of the steps.
    """

    def training(*given: Any) -> TrainingOutputs:
        arguments = dict(zip(names, given, strict=True))
        registry_folder = arguments.pop("registry_folder")
        admitted = contract_steps.admit(**arguments)
        place(admitted, "admit", placement)
        admission = admitted.outputs
        code_version = admission["code_version"]

        def given_to(stage: str) -> dict[str, Any]:
            return {"options": admission[stage], "code_version": code_version}

        data = data_steps.ingest(
            source=admission["source"],
            scenes=admission["scenes"],
            **given_to("ingest"),
            data_version=admission["data_version"],
        )
        place(data, "ingest", placement)
        dataset = data.outputs["dataset"]
        weights = {name: admission[name] for name in ("ladder", "ladder_version")}

        examined = data_steps.validate(dataset=dataset, **given_to("validate"), **weights)
        place(examined, "validate", placement)
        checked_first = data_steps.spot_check(
            dataset=dataset, **given_to("spot_check"), **weights
        ).after(examined)
        place(checked_first, "spot_check", placement).set_display_name("spot check")
        compared = data_steps.compare_rungs(dataset=dataset, **given_to("compare_rungs"), **weights)
        place(compared, "compare_rungs", placement).set_display_name("compare rungs")
        divided = data_steps.split(dataset=dataset, **given_to("split"))
        place(divided, "split", placement)
        observed = data_steps.observe(dataset=dataset, **given_to("observe"))
        place(observed, "observe", placement)
        timed = data_steps.time(dataset=dataset, **given_to("time"), **weights)
        place(timed, "time", placement)
        profiles = {}
        for rung in LADDER:
            profiled = data_steps.profile(
                dataset=dataset, rung=rung, **given_to("profile"), **weights
            )
            place(profiled, "profile", placement).set_display_name(f"profile {rung}")
            profiles[rung] = profiled
        for task in (compared, divided, observed, timed, *profiles.values()):
            # Nothing is spent on data that is refused.
            task.after(checked_first)

        looks = {rung: task.outputs["detections"] for rung, task in profiles.items()}
        measured = {
            "dataset": dataset,
            "timings": timed.outputs["timings"],
            "code_version": code_version,
            **looks,
        }
        labelled = policy_steps.label(
            observations=observed.outputs["observations"],
            parts=divided.outputs["parts"],
            options=admission["label"],
            **measured,
        )
        place(labelled, "label", placement)
        replay = labelled.outputs["replay"]
        cloned = policy_steps.clone(replay=replay, **given_to("clone"))
        place(cloned, "clone", placement)
        refined = policy_steps.refine(
            dataset=dataset,
            replay=replay,
            clones=cloned.outputs["clones"],
            floors=admission["floors"],
            **given_to("refine"),
            **looks,
        )
        place(refined, "refine", placement)
        policies = refined.outputs["policies"]
        usual = policy_steps.reference(
            dataset=dataset,
            replay=replay,
            policies=policies,
            **given_to("reference"),
            **looks,
        )
        place(usual, "reference", placement)
        judged = policy_steps.evaluate(
            replay=replay, policies=policies, options=admission["evaluate"], **measured
        )
        place(judged, "evaluate", placement)
        evaluation = judged.outputs["evaluation"]
        scored = contract_steps.score(
            contract=admission["contract"], evaluation=evaluation, code_version=code_version
        )
        place(scored, "score", placement)
        checked = policy_steps.gate(
            evaluation=evaluation,
            comparison=compared.outputs["comparison"],
            **given_to("gate"),
        )
        place(checked, "gate", placement)
        checklist, passed = checked.outputs["checklist"], checked.outputs["Output"]

        ending = {
            "policies": policies,
            "evaluation": evaluation,
            "checklist": checklist,
            "registry_folder": registry_folder,
            **given_to("register"),
        }
        with dsl.If(passed == True, name="passed"):  # noqa: E712  # KFP overloads the operator
            entered = policy_steps.register(reference=usual.outputs["reference"], **ending)
            place(entered, "register", placement)
        # The local runner needs the other branch: a condition that it cannot evaluate would
        # otherwise look the same as a gate that refused.
        with dsl.Else(name="refused"):
            refused = policy_steps.refuse(**ending)
            place(refused, "refuse", placement)
        return TrainingOutputs(
            outcome=dsl.OneOf(entered.outputs["Output"], refused.output),
            passed=passed,
            dataset=dataset,
            validation=examined.outputs["validation"],
            parts=divided.outputs["parts"],
            timings=timed.outputs["timings"],
            nano=profiles["nano"].outputs["detections"],
            small=profiles["small"].outputs["detections"],
            large=profiles["large"].outputs["detections"],
            replay=replay,
            policies=policies,
            reference=usual.outputs["reference"],
            evaluation=evaluation,
            checklist=checklist,
            score=scored.outputs["score"],
        )

    defaults = {name: default for name, (default, _) in PLAIN.items()}
    defaults |= {name: one.default for name, one in flat_parameters().items()}
    names = tuple(defaults)
    training.__doc__ = f"{_DESCRIPTION}\n\nArgs:\n{parameter_texts()}\n"
    training.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # KFP reads it
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=default,
                annotation=type(default),
            )
            for name, default in defaults.items()
        ],
        return_annotation=TrainingOutputs,
    )
    return dsl.pipeline(name=NAME, description=_DESCRIPTION)(training)
