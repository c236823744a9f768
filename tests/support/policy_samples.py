"""Two runs and their registry, made by the project's own stages on small scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from chain_samples import Artifacts, prepare
from replay_samples import replay_of
from tiny_models import save_policy

from components.evaluation.gate import GateConfig, gate
from components.policy.label import LabelConfig, label
from components.profiling.replay import save_replay
from feature_transformer.observation import (
    FRAME_FEATURES,
    LOOK_NAMES,
    OBSERVATION_SIZE,
)

__all__ = ["MadeRuns", "make_run", "make_runs", "replay_of", "save_replay"]

LENIENT = GateConfig(
    retained=0.0,
    latency_ratio=9.0,
    hull_margin=-9.0,
    rule_margin=-9.0,
    clone_margin=-9.0,
    fixed_rung_margin=-9.0,
    gear_gain=-9.0,
    scene_type_retained=0.0,
)
STRICT = GateConfig(retained=1.0, latency_ratio=0.001)
CROWD = {"calm": 0.35, "eager": 0.15}
"""By run: what counts as a crowd, in units of the look's count; large looks where there is one."""


@dataclass(frozen=True)
class MadeRuns:
    """What stands on the disk.

    Attributes:
        runs: folder with ``calm`` and ``eager``; in it MLflow's database, in which calm is
            version 1; eager was refused.
        inputs: what both were made from.
    """

    runs: Path
    inputs: Artifacts


def make_runs(folder: Path) -> MadeRuns:
    """Make both runs; takes seconds."""
    from components.policy.register import RegisterConfig, register

    inputs = prepare(folder / "inputs")
    label(
        inputs.dataset,
        inputs.detections,
        inputs.timings,
        inputs.observations,
        inputs.split,
        inputs.replay,
        LabelConfig(),
    )
    runs = folder / "runs"
    calm = make_run(inputs, runs / "calm", CROWD["calm"], LENIENT, 0.1)
    register(calm / "policies", calm, calm, calm / "registration", RegisterConfig())
    make_run(inputs, runs / "eager", CROWD["eager"], STRICT, 0.05)
    return MadeRuns(runs, inputs)


def make_run(
    inputs: Artifacts, run: Path, crowd: float, limits: GateConfig, latency_weight: float
) -> Path:
    """Judge a policy that sends crowded frames to large, others to small; returns the folder."""
    from components.evaluation.evaluate import EvaluateConfig, evaluate

    run.mkdir(parents=True)
    policies = run / "policies"
    clone(policies / "seed-0", crowd, latency_weight)
    shutil.copy(policies / "seed-0" / "policy.onnx", policies)
    (policies / "summary.json").write_text(json.dumps(_refinement(latency_weight)))
    config = EvaluateConfig(points=4, bootstrap=20, fleet_sizes=(1,))
    evaluate(
        inputs.dataset,
        inputs.detections,
        inputs.timings,
        inputs.replay,
        policies,
        run / "evaluation",
        config,
    )
    gate(run / "evaluation" / "report.json", run / "checklist", limits)
    for file in (*(run / "evaluation").iterdir(), *(run / "checklist").iterdir()):
        file.rename(run / file.name)
    report = json.loads((run / "report.json").read_text())
    report["gate"] = json.loads((run / "gate.json").read_text())
    (run / "report.json").write_text(json.dumps(report))
    shutil.copytree(inputs.replay, run / "replay")
    shutil.copy(policies / "policy.onnx", run)
    arguments: Mapping[str, Any] = {
        "label": asdict(LabelConfig()),
        "evaluate": asdict(config),
        "refine": {"crowd": crowd},
    }
    (run / "run.json").write_text(json.dumps({"arguments": arguments}))
    return run


def clone(folder: Path, crowd: float, latency_weight: float) -> None:
    """A policy and its clone, the same network."""
    folder.mkdir(parents=True)
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[FRAME_FEATURES + LOOK_NAMES.index("count_25"), 2] = 1.0
    notes = {
        "gearshift.latency_weight": repr(latency_weight),
        "gearshift.card": json.dumps({"seed": 0, "crowd": crowd}),
    }
    for name in ("policy.onnx", "clone.onnx"):
        save_policy(folder / name, weights, (-1.0, 0.0, -crowd), notes)


def _refinement(latency_weight: float) -> dict[str, Any]:
    """What the refine stage reports of one seed that PPO left as it was."""
    return {
        "seeds": [0],
        "released": 0,
        "refined": [False],
        "parity": [1.0],
        "explained_variance": [0.5],
        "latency_weight": [latency_weight],
        "clone_reward": [0.1],
        "refined_reward": [0.1],
        "clone_fleet_reward": [0.1],
        "refined_fleet_reward": [0.1],
    }
