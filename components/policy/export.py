"""A policy as ONNX: the file that serving loads, with its schema, ladder and origin inside."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from components.policy.network import RungLogits
from components.profiling.replay import Replay, observations_of
from feature_transformer.context import PREFERENCE_RANGE
from feature_transformer.observation import (
    LOAD_SLICE,
    OBSERVATION_SIZE,
)
from foundation.errors import PipelineError
from foundation.storage import atomic_path
from inference_graph.contract import (
    CARD_KEY,
    LADDER,
    LADDER_KEY,
    LATENCY_WEIGHT_KEY,
    POLICY_ACTION,
    POLICY_INPUT,
    POLICY_PROBABILITIES,
    REUSE_KEY,
    SCHEMA_HASH_KEY,
    USES_FRAME_KEY,
)
from inference_graph.router import Policy
from inference_graph.tracking import ReuseConfig

PARITY_OBSERVATIONS = 1_000


@dataclass(frozen=True)
class PolicyFacts:
    """Metadata exported with a policy.

    Attributes:
        latency_weight: its default operating point.
        seed: number of the policy.
        recipe: how it was made.
        reuse: when a stream's tracks answer a frame in place of a rung.
    """

    latency_weight: float
    seed: int
    recipe: Mapping[str, Any]
    reuse: ReuseConfig = ReuseConfig()


class _Decision(nn.Module):
    """Logits as serving wants them: the greedy action and all probabilities."""

    def __init__(self, logits: RungLogits) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(observations)
        return logits.argmax(dim=1), torch.softmax(logits, dim=1)


def export_policy(network: RungLogits, out: Path, facts: PolicyFacts, replay: Replay) -> float:
    """Write a policy and hold the file against the network it came from.

    Args:
        network: the policy's logits.
        out: the ``.onnx`` to write.
        facts: what travels with it.
        replay: where the observations of the comparison come from.

    Returns:
        The share of 1,000 observations on which ONNX Runtime decides as torch does: 1.0.

    Raises:
        PipelineError: the file decides otherwise anywhere.
        StorageError: the disk is full.
    """
    decision = _Decision(network).eval()
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "policy.onnx"
        torch.onnx.export(
            decision,
            (torch.zeros(2, OBSERVATION_SIZE),),
            str(plain),
            dynamo=False,
            input_names=[POLICY_INPUT],
            output_names=[POLICY_ACTION, POLICY_PROBABILITIES],
            dynamic_axes={
                name: {0: "n"} for name in (POLICY_INPUT, POLICY_ACTION, POLICY_PROBABILITIES)
            },
            opset_version=17,
        )
        model = onnx.load(str(plain))
    helper.set_model_props(
        model,
        {
            SCHEMA_HASH_KEY: str(replay.schema_hash),
            LADDER_KEY: json.dumps(list(LADDER)),
            USES_FRAME_KEY: json.dumps(network.summary.uses_frame),
            LATENCY_WEIGHT_KEY: repr(facts.latency_weight),
            REUSE_KEY: json.dumps(asdict(facts.reuse)),
            CARD_KEY: json.dumps({"seed": facts.seed, **facts.recipe}),
        },
    )
    with atomic_path(out) as partial:
        onnx.save(model, str(partial))
        agreement = parity(decision, Policy(partial, task=replay.task), replay)
        if agreement < 1.0:
            raise PipelineError(
                f"the exported policy agrees with its network on {agreement:.1%} of "
                f"{PARITY_OBSERVATIONS} observations only; nothing was stored"
            )
    return agreement


def parity(network: nn.Module, policy: Policy, replay: Replay) -> float:
    """Share of observations on which the file and the network decide alike, 0..1.

    Half of the observations are the replay's own, half carry loads as well.
    """
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(replay), PARITY_OBSERVATIONS)
    rungs = rng.integers(0, len(LADDER), PARITY_OBSERVATIONS)
    points = rng.uniform(*PREFERENCE_RANGE, PARITY_OBSERVATIONS).astype(np.float32)
    observations = observations_of(replay.frames[rows], replay.looks[rows, rungs], points)
    half = PARITY_OBSERVATIONS // 2
    observations[:half, LOAD_SLICE] = rng.uniform(0, 3, (half, len(LADDER)))
    with torch.no_grad():
        expected = network(torch.from_numpy(observations))[0].numpy()
    actions, _ = policy.decide(observations)
    return float(np.mean(actions == expected))
