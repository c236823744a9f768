"""Options with which the training pipeline takes seconds, for tests of what it does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

SMALL: dict[str, Any] = {
    "clone.seeds": 1,
    "clone.steps": 60,
    "refine.timesteps": 2000,
    "refine.fleets": 2,
    "refine.critic_rollouts": 3,
    "time.images": 3,
    "time.repeats": 2,
    "time.warmup": 1,
    "compare_rungs.frames": 1,
    "spot_check.images": 4,
    "evaluate.bootstrap": 10,
    "evaluate.points": 2,
}
LENIENT: dict[str, Any] = {
    "gate.retained": 0,
    "gate.latency_ratio": 10,
    "gate.gear_gain": -9,
    "gate.scene_type_retained": 0,
    **{
        f"gate.{name}": -1
        for name in (
            "hull_margin",
            "clone_margin",
            "rule_margin",
            "fixed_rung_margin",
            "explained_variance",
        )
    },
}
"""The gate lets every policy pass."""
ALTERNATIVES = [
    *("always-large", "always-small", "always-nano", "random-mix", "edge-density", "object-count"),
    *("cascade", "previous-frame", "oric", "tod", "ecore", "rams", "bc", "gearshift", "oracle"),
]
"""Names of the rows of a report, in its order."""


def flags(settings: Mapping[str, Any]) -> list[str]:
    """The settings as options of a verb."""
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def by_stage(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings as ``run_training`` takes them."""
    stages: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in settings.items():
        stage, _, option = name.partition(".")
        stages[stage][option] = value
    return stages
