"""The first and the last face of a run in Kubeflow Pipelines: its contract, checked and scored.

What holds for ``pipelines.training.data_steps`` holds here. Neither step may stand in for another
run's: a seal is of one launch.
"""

from kfp import dsl

from pipelines.training.data_steps import step


@step
def admit(
    contract: dict,
    source: str,
    code_version: str,
    data_version: str,
    ladder_version: str,
    scenes: dict,
    ingest: dict,
    validate: dict,
    split: dict,
    observe: dict,
    profile: dict,
    time: dict,
    label: dict,
    clone: dict,
    refine: dict,
    reference: dict,
    evaluate: dict,
    gate: dict,
    register: dict,
) -> str:
    """Refuse a run without a sealed contract, or whose seal is of another configuration.

    Args:
        contract: the seal: content and sha256, with the attempt's MLflow run.
        source: what will be read.
        code_version: version of the code that runs.
        data_version: version of what the source holds.
        ladder_version: version of the weights.
        scenes: options, as sealed; so are the rest.
        ingest: see above.
        validate: see above.
        split: see above.
        observe: see above.
        profile: see above.
        time: see above.
        label: see above.
        clone: see above.
        refine: see above.
        reference: see above.
        evaluate: see above.
        gate: see above.
        register: see above.
    """
    from components.experiments.seal import admit

    stages = {
        "scenes": scenes, "ingest": ingest, "validate": validate, "split": split,
        "observe": observe, "profile": profile, "time": time, "label": label, "clone": clone,
        "refine": refine, "reference": reference, "evaluate": evaluate, "gate": gate,
        "register": register,
    }  # fmt: skip
    versions = {
        "code_version": code_version, "data_version": data_version,
        "ladder_version": ladder_version,
    }  # fmt: skip
    sealed = admit(contract, stages, source, versions)
    print(f"{sealed.attempt}, sealed {sealed.content['sealed_at']}: {sealed.contract.expected}")
    return sealed.sha256


@step
def score(
    contract: dict,
    evaluation: dsl.Input[dsl.Artifact],
    code_version: str,
    score: dsl.Output[dsl.Artifact],
) -> str:
    """Hold the report against the sealed expectation: met, missed or void.

    Args:
        contract: the seal, as admitted.
        evaluation: the evaluate stage's folder.
        code_version: version of the code that runs.
        score: verdict, reason and figures, JSON.
    """
    from pathlib import Path

    from components.experiments.scoring import score_run

    found = score_run(contract, Path(evaluation.path), Path(score.path))
    print(f"{found.verdict}: {found.reason}")
    return found.verdict
