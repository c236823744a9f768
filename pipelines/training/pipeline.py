"""The training pipeline: from data to a registered policy, or to a refusal that says why.

::

    admit ─ ingest ─┬─ validate ─┬─ split ──────────────────────┐
                    │            ├─ observe ────────────────────┤
                    │            ├─ profile (nano, small, large) ┼ label ─ clone ─ refine ─ evaluate
                    │            └─ time ───────────────────────┘                        │     │
                    └──────────────────────────────────────────────────────────────── gate  score
                                                            passed: register · else: refuse

A run without a sealed contract ends in ``admit``, before anything was read; ``score`` says whether
what the contract promises came about (``components.experiments``). Beside evaluate, ``reference``
keeps what the policy's log would hold of these frames: drift is measured against it. One definition
serves the cluster (``compile_pipeline``) and this machine (``pipelines.local``). Every stage's
options are one parameter, whose default is the stage's own configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl.base_component import BaseComponent

from components.data.ingest import IngestConfig
from components.data.observe import ObserveConfig
from components.data.split import SplitConfig
from components.data.validate import ValidateConfig
from components.drift.reference import ReferenceConfig
from components.evaluation.evaluate import EvaluateConfig
from components.evaluation.gate import GateConfig
from components.policy.clone import CloneConfig
from components.policy.label import LabelConfig
from components.policy.refine import RefineConfig
from components.policy.register import RegisterConfig
from components.profiling.profile import ProfileConfig
from components.profiling.timing import TimingConfig
from components.scenes.writer import ScenesConfig
from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from pipelines.options import build, defaults_of, describe, merge, options_of, to_json
from pipelines.placement import PlacementConfig, place
from pipelines.training import contract_steps, data_steps, policy_steps

NAME = "gearshift-training"

STAGES: Mapping[str, type] = MappingProxyType(
    {
        "scenes": ScenesConfig,
        "ingest": IngestConfig,
        "validate": ValidateConfig,
        "split": SplitConfig,
        "observe": ObserveConfig,
        "profile": ProfileConfig,
        "time": TimingConfig,
        "label": LabelConfig,
        "clone": CloneConfig,
        "refine": RefineConfig,
        "reference": ReferenceConfig,
        "evaluate": EvaluateConfig,
        "gate": GateConfig,
        "register": RegisterConfig,
    }
)
"""What can be set: the configuration of every stage, by the name of its pipeline parameter."""

SAMPLE_SCENES: Mapping[str, Any] = MappingProxyType({"clips": 70, "seed": 1})
"""The sample that is rendered where no source is given, beside the defaults of ScenesConfig."""

_DESCRIPTION = "From annotated images to a routing policy that passed its gate, registered."
_PLAIN_PARAMETERS = {
    "source": "COCO-format folder, zip or URL; coco2017 fetches COCO's val2017; empty renders the "
    "sample scenes.",
    "ladder": "folder with nano.onnx, small.onnx and large.onnx; coco fetches and exports "
    "Ultralytics' COCO weights in each step; empty takes the sample ladder.",
    "code_version": "names the code; results of another version are not reused.",
    "data_version": "names the content of the source; change it when the content changes.",
    "ladder_version": "names the weights; change it when they change.",
    "registry_folder": "folder of MLflow's database where register has no tracking_uri.",
    "contract": "the sealed contract; a run without one is refused. gearshift experiment run makes "
    "it, for this machine and for a cluster.",
}


def options_defaults(stage: str) -> dict[str, Any]:
    """Defaults of a stage's pipeline parameter."""
    sample = dict(SAMPLE_SCENES) if stage == "scenes" else {}
    return defaults_of(STAGES[stage]) | sample


def stage_options(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every stage's options, checked: a mistyped one shall not wait for its stage's turn.

    Args:
        settings: options by stage, where they differ from the defaults.

    Raises:
        ConfigurationError: an unknown option, or a value out of range.
    """
    merged = {stage: merge(options_defaults(stage), settings.get(stage, {})) for stage in STAGES}
    return {stage: to_json(build(config, merged[stage], stage)) for stage, config in STAGES.items()}


def settings_help() -> str:
    """List what ``--set`` can set, in Markdown."""
    rows = []
    for stage, config in STAGES.items():
        defaults = options_defaults(stage)
        rows += [
            f"- `{stage}.{option.name}={_as_setting(defaults[option.name])}` {option.help}"
            for option in options_of(config)
        ]
    return "What can be set, with its default:\n\n" + "\n".join(rows)


def _as_setting(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "none" if value is None else str(value)


class Results(NamedTuple):
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

    def training(
        source: str = "",
        ladder: str = "",
        code_version: str = "",
        data_version: str = "",
        ladder_version: str = "",
        registry_folder: str = "",
        contract: dict = {},  # noqa: B006  # KFP reads it off the signature, nothing changes it
        scenes: dict = options_defaults("scenes"),
        ingest: dict = options_defaults("ingest"),
        validate: dict = options_defaults("validate"),
        split: dict = options_defaults("split"),
        observe: dict = options_defaults("observe"),
        profile: dict = options_defaults("profile"),
        time: dict = options_defaults("time"),
        label: dict = options_defaults("label"),
        clone: dict = options_defaults("clone"),
        refine: dict = options_defaults("refine"),
        reference: dict = options_defaults("reference"),
        evaluate: dict = options_defaults("evaluate"),
        gate: dict = options_defaults("gate"),
        register: dict = options_defaults("register"),
    ) -> Results:
        versions = {
            "code_version": code_version,
            "data_version": data_version,
            "ladder_version": ladder_version,
        }
        admitted = contract_steps.admit(
            contract=contract,
            source=source,
            **versions,
            scenes=scenes,
            ingest=ingest,
            validate=validate,
            split=split,
            observe=observe,
            profile=profile,
            time=time,
            label=label,
            clone=clone,
            refine=refine,
            reference=reference,
            evaluate=evaluate,
            gate=gate,
            register=register,
        )
        place(admitted, "admit", placement)
        data = data_steps.ingest(
            source=source,
            scenes=scenes,
            options=ingest,
            code_version=code_version,
            data_version=data_version,
        )
        place(data, "ingest", placement)
        data.after(admitted)
        dataset = data.outputs["dataset"]
        weights = {"ladder": ladder, "ladder_version": ladder_version}

        examined = data_steps.validate(
            dataset=dataset, options=validate, code_version=code_version, **weights
        )
        place(examined, "validate", placement)
        divided = data_steps.split(dataset=dataset, options=split, code_version=code_version)
        place(divided, "split", placement)
        observed = data_steps.observe(dataset=dataset, options=observe, code_version=code_version)
        place(observed, "observe", placement)
        timed = data_steps.time(dataset=dataset, options=time, code_version=code_version, **weights)
        place(timed, "time", placement)
        profiles = {}
        for rung in LADDER:
            profiled = data_steps.profile(
                dataset=dataset, rung=rung, options=profile, code_version=code_version, **weights
            )
            place(profiled, "profile", placement).set_display_name(f"profile {rung}")
            profiles[rung] = profiled
        for task in (divided, observed, timed, *profiles.values()):
            # Nothing is spent on data that validate refuses.
            task.after(examined)

        measured = {
            "dataset": dataset,
            "timings": timed.outputs["timings"],
            "code_version": code_version,
            **{rung: task.outputs["detections"] for rung, task in profiles.items()},
        }
        labelled = policy_steps.label(
            observations=observed.outputs["observations"],
            parts=divided.outputs["parts"],
            options=label,
            **measured,
        )
        place(labelled, "label", placement)
        replay = labelled.outputs["replay"]
        cloned = policy_steps.clone(replay=replay, options=clone, code_version=code_version)
        place(cloned, "clone", placement)
        refined = policy_steps.refine(
            replay=replay,
            clones=cloned.outputs["clones"],
            options=refine,
            code_version=code_version,
        )
        place(refined, "refine", placement)
        policies = refined.outputs["policies"]
        usual = policy_steps.reference(
            dataset=dataset,
            replay=replay,
            policies=policies,
            options=reference,
            code_version=code_version,
            **{rung: task.outputs["detections"] for rung, task in profiles.items()},
        )
        place(usual, "reference", placement)
        judged = policy_steps.evaluate(
            replay=replay, policies=policies, options=evaluate, **measured
        )
        place(judged, "evaluate", placement)
        evaluation = judged.outputs["evaluation"]
        scored = contract_steps.score(
            contract=contract, evaluation=evaluation, code_version=code_version
        )
        place(scored, "score", placement)
        checked = policy_steps.gate(evaluation=evaluation, options=gate, code_version=code_version)
        place(checked, "gate", placement)
        checklist, passed = checked.outputs["checklist"], checked.outputs["Output"]

        ending = {
            "policies": policies,
            "evaluation": evaluation,
            "checklist": checklist,
            "options": register,
            "registry_folder": registry_folder,
            "code_version": code_version,
        }
        with dsl.If(passed == True, name="passed"):  # noqa: E712  # KFP overloads the operator
            entered = policy_steps.register(reference=usual.outputs["reference"], **ending)
            place(entered, "register", placement)
        # The local runner needs the other branch: a condition that it cannot evaluate would
        # otherwise look the same as a gate that refused.
        with dsl.Else(name="refused"):
            refused = policy_steps.refuse(**ending)
            place(refused, "refuse", placement)
        return Results(
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

    parameters = _PLAIN_PARAMETERS | {
        stage: f"options of {stage}. {describe(config)}" for stage, config in STAGES.items()
    }
    lines = "\n".join(f"    {name}: {text}" for name, text in parameters.items())
    training.__doc__ = f"{_DESCRIPTION}\n\nArgs:\n{lines}\n"
    return dsl.pipeline(name=NAME, description=_DESCRIPTION)(training)


def compile_pipeline(placement: PlacementConfig, out: Path) -> Path:
    """Write the pipeline as YAML for the Kubeflow UI.

    Args:
        placement: images, GPUs and retries of the steps.
        out: folder to write to.

    Returns:
        The YAML file.

    Raises:
        StorageError: the folder cannot be written.
    """
    file = out / f"{NAME}.yaml"
    with atomic_path(file) as partial:
        compiler.Compiler().compile(training_pipeline(placement), str(partial))
    return file
