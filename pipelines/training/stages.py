"""The stages of the training pipeline and what can be set of each.

KFP is not imported here, and no stage before its options are asked for, so that the command line
knows the names of the stages at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from pipelines.options import Option, build, merge, options_of, to_json
from pipelines.static_options import Unreadable, read_options

STAGES: Mapping[str, str] = MappingProxyType(
    {
        "scenes": "components.scenes.writer:ScenesConfig",
        "ingest": "components.data.ingest:IngestConfig",
        "validate": "components.data.validate:ValidateConfig",
        "spot_check": "components.profiling.spot_check:SpotCheckConfig",
        "compare_rungs": "components.ladder.compare:CompareConfig",
        "split": "components.data.split:SplitConfig",
        "observe": "components.data.observe:ObserveConfig",
        "profile": "components.profiling.profile:ProfileConfig",
        "time": "components.profiling.timing:TimingConfig",
        "label": "components.policy.label:LabelConfig",
        "clone": "components.policy.clone:CloneConfig",
        "refine": "components.policy.refine:RefineConfig",
        "reference": "components.drift.reference:ReferenceConfig",
        "evaluate": "components.evaluation.evaluate:EvaluateConfig",
        "gate": "components.evaluation.gate:GateConfig",
        "register": "components.policy.register:RegisterConfig",
    }
)
"""Where the configuration of each stage is, "module:Class"."""

SAMPLE_SCENES: Mapping[str, Any] = MappingProxyType({"clips": 70, "seed": 1})
"""The sample that is rendered where no source is given, beside the defaults of ScenesConfig."""


@cache
def stage_config(stage: str) -> type[Any]:
    """The configuration class of a stage; imports its module."""
    module, _, name = STAGES[stage].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found


@cache
def described_options(stage: str) -> tuple[Option, ...]:
    """Options of a stage with their texts and defaults, read without importing the stage."""
    sample = SAMPLE_SCENES if stage == "scenes" else {}
    try:
        options = read_options(STAGES[stage])
    except Unreadable:
        options = options_of(stage_config(stage))
    return tuple(one._replace(default=sample.get(one.name, one.default)) for one in options)


def stage_defaults(stage: str) -> dict[str, Any]:
    """Defaults of a stage's options, in types that JSON knows."""
    return {option.name: to_json(option.default) for option in described_options(stage)}


def stage_options(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every stage's options, checked, so that a mistyped one does not wait for its stage's turn.

    Args:
        settings: options by stage, where they differ from the defaults.

    Raises:
        ConfigurationError: an unknown option, or a value out of range.
    """
    return {
        stage: to_json(
            build(stage_config(stage), merge(stage_defaults(stage), settings.get(stage, {})), stage)
        )
        for stage in STAGES
    }


def as_setting(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return "none" if value is None else str(value)
