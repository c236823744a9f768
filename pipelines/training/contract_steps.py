"""The first and the last step of a run in Kubeflow Pipelines: its contract, admitted and scored.

What holds for ``pipelines.training.data_steps`` holds here. Neither step may stand in for another
run's: a seal is of one launch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from pipelines.training.data_steps import step
from pipelines.training.parameters import parameter_texts


def _described(function: Callable[..., Any]) -> Callable[..., Any]:
    """Append the texts of the pipeline's parameters to the docstring, which KFP reads."""
    function.__doc__ = f"{function.__doc__}\n\nArgs:\n{parameter_texts()}\n"
    return function


@step
@_described
def admit(
    contract: dict,
    source: str,
    ladder: str,
    author: str,
    settings: dict,
    code_version: str,
    data_version: str,
    ladder_version: str,
    scenes_clips: int,
    scenes_condition: str,
    scenes_seed: int,
    ingest_limit: int,
    ingest_on_invalid: str,
    split_train: float,
    split_validation: float,
    split_test: float,
    time_price_per_hour_usd: float,
    label_quality_weight: float,
    label_latency_weight: float,
    label_cost_weight: float,
    clone_seeds: int,
    clone_steps: int,
    refine_timesteps: int,
    refine_learning_rate: float,
    refine_latency_budget: float,
    refine_fleets: int,
    gate_retained: float,
    gate_latency_ratio: float,
    gate_scene_type_retained: float,
    register_tracking_uri: str,
    register_experiment: str,
    register_model_name: str,
) -> NamedTuple(  # type: ignore[valid-type]  # KFP reads it so
    "Admitted",
    [
        ("contract", dict),
        ("source", str),
        ("ladder", str),
        ("code_version", str),
        ("data_version", str),
        ("ladder_version", str),
        ("scenes", dict),
        ("ingest", dict),
        ("validate", dict),
        ("spot_check", dict),
        ("compare_rungs", dict),
        ("split", dict),
        ("observe", dict),
        ("profile", dict),
        ("time", dict),
        ("label", dict),
        ("clone", dict),
        ("refine", dict),
        ("reference", dict),
        ("evaluate", dict),
        ("gate", dict),
        ("register", dict),
        ("floors", dict),
    ],
):
    """Seal the run, or check its seal, and return what every stage gets."""
    given = dict(locals())

    from pipelines.training.admission import admit_run

    return admit_run(given)


@step
def score(
    contract: dict,
    evaluation: dsl.Input[dsl.Artifact],
    code_version: str,
    score: dsl.Output[dsl.Artifact],
) -> str:
    """Compare the report with the sealed expectation: met, missed or void.

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
