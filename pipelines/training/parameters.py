"""The training pipeline's parameters: what people change has one of its own, typed and described.

The rest is in ``settings``, options by stage where they differ from the defaults. Defaults, types
and texts of the flat parameters are those of the stage's own configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foundation.errors import ConfigurationError
from foundation.nearest import unknown
from pipelines.options import Option, merge
from pipelines.training.stages import STAGES, described_options, stage_defaults, stage_options

_FLAT = (
    "scenes.clips",
    "scenes.condition",
    "scenes.seed",
    "ingest.limit",
    "ingest.on_invalid",
    "split.train",
    "split.validation",
    "split.test",
    "time.price_per_hour_usd",
    "label.quality_weight",
    "label.latency_weight",
    "label.cost_weight",
    "clone.seeds",
    "clone.steps",
    "refine.timesteps",
    "refine.learning_rate",
    "refine.latency_budget",
    "refine.fleets",
    "gate.retained",
    "gate.latency_ratio",
    "gate.scene_type_retained",
    "register.tracking_uri",
    "register.experiment",
    "register.model_name",
)
PLAIN: Mapping[str, tuple[Any, str]] = {
    "source": (
        "",
        "COCO-format folder, zip or URL; coco2017 fetches COCO's val2017; empty renders "
        "the sample scenes.",
    ),
    "ladder": (
        "",
        "folder with nano.onnx, small.onnx and large.onnx; coco fetches and exports "
        "Ultralytics' COCO weights in each step; empty takes the sample ladder.",
    ),
    "author": ("", "who launches the run, for its contract; the run's namespace without it."),
    "settings": (
        {},
        "further options by stage, where they differ from the defaults, for example "
        '{"clone": {"learning_rate": 0.001}}; gearshift pipeline options lists them.',
    ),
    "contract": (
        {},
        "sealed contract, as gearshift experiment seal prints it; without one the run "
        "is sealed as a launch of the shipped baseline.",
    ),
    "code_version": ("", "names the code; results of another version are not reused."),
    "data_version": ("", "names the content of the source; change it when the content changes."),
    "ladder_version": ("", "names the weights; change it when they change."),
    "registry_folder": ("", "folder of MLflow's database where register_tracking_uri is empty."),
}
"""Default and text of each parameter that is no option of a stage."""


@dataclass(frozen=True)
class FlatParameter:
    """A parameter that stands for one option of a stage.

    Attributes:
        stage: the stage.
        option: the option, with the type and the text that it has there.
        default: as the pipeline has it.
    """

    stage: str
    option: Option
    default: Any


def flat_parameters() -> dict[str, FlatParameter]:
    """The flat parameters by name."""
    found = {}
    for path in _FLAT:
        stage, _, name = path.partition(".")
        (option,) = (one for one in described_options(stage) if one.name == name)
        found[f"{stage}_{name}"] = FlatParameter(stage, option, stage_defaults(stage)[name])
    return found


def arguments_of(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The pipeline's arguments for a whole configuration: flat ones, and the rest as settings.

    Args:
        options: every option of every stage.
    """
    flat = flat_parameters()
    arguments: dict[str, Any] = {
        name: options[one.stage][one.option.name] for name, one in flat.items()
    }
    settings: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        defaults = stage_defaults(stage)
        for name, value in options[stage].items():
            if f"{stage}_{name}" not in flat and value != defaults[name]:
                settings.setdefault(stage, {})[name] = value
    return arguments | {"settings": settings}


def options_from(
    flat: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Every option of every stage, from the pipeline's arguments; the inverse of ``arguments_of``.

    Raises:
        ConfigurationError: settings name what has a parameter of its own, an unknown stage or
            option, or a value out of range.
    """
    known = flat_parameters()
    for stage, options in settings.items():
        if stage not in STAGES:
            raise ConfigurationError(f"settings: the stage {unknown(stage, STAGES)}")
        if not isinstance(options, Mapping):
            raise ConfigurationError(f"settings.{stage} is {options!r}; give its options by name")
        for name in options:
            if f"{stage}_{name}" in known:
                raise ConfigurationError(
                    f"settings.{stage}.{name} has a parameter of its own; set {stage}_{name}"
                )
    chosen: dict[str, Any] = {stage: {} for stage in STAGES}
    for name, value in flat.items():
        chosen[known[name].stage][known[name].option.name] = value
    return stage_options(merge(settings, chosen))


def parameter_texts() -> str:
    """The parameters with their texts, as the "Args" section of a docstring lists them."""
    texts = {name: text for name, (_, text) in PLAIN.items()}
    texts |= {name: one.option.help for name, one in flat_parameters().items()}
    return "\n".join(f"    {name}: {text}" for name, text in texts.items())
