"""The router's tensors on the wire, shared by its service and by the transformer that calls it.

V2 request: ``observations`` FP32 [n, OBSERVATION_SIZE]. V2 answer: ``action`` INT64 [n], indices
into the ladder, and ``probabilities`` FP32 [n, rungs]; its parameters hold the policy's
``revision``. A request whose ``outputs`` name only facts (``schema_hash``, ``ladder``,
``latency_weight``, ``revision``) needs no observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_transformer.makers import MAKERS, ObservationMaker
from feature_transformer.observation import LADDER, OBSERVATION_SIZE
from foundation.errors import InvalidInput, ModelError, SchemaMismatch
from serving_kit.tensors import BYTES, Parameter, Tensor, TensorFacts

OBSERVATIONS, ACTION, PROBABILITIES = "observations", "action", "probabilities"
SCHEMA, RUNGS, LATENCY_WEIGHT, REVISION = "schema_hash", "ladder", "latency_weight", "revision"
DECIDE_MS = "decide_ms"
FACT_NAMES = frozenset((SCHEMA, RUNGS, LATENCY_WEIGHT, REVISION))
MAX_ROWS = 4096
"""Observations of one request."""

INPUTS = (TensorFacts(OBSERVATIONS, "FP32", (-1, OBSERVATION_SIZE)),)
OUTPUTS = (
    TensorFacts(ACTION, "INT64", (-1,)),
    TensorFacts(PROBABILITIES, "FP32", (-1, len(LADDER))),
    TensorFacts(SCHEMA, BYTES, (1,)),
    TensorFacts(RUNGS, BYTES, (len(LADDER),)),
    TensorFacts(LATENCY_WEIGHT, "FP64", (1,)),
    TensorFacts(REVISION, BYTES, (1,)),
)


@dataclass(frozen=True)
class RouterFacts:
    """Facts of a router's policy.

    Attributes:
        latency_weight: the operating point it was released for.
        revision: first 12 hexadecimal digits of the SHA-256 of its file.
        maker: who makes what it sees.
    """

    latency_weight: float
    revision: str
    maker: ObservationMaker


@dataclass(frozen=True)
class RouterDecision:
    """What a router decides for one observation.

    Attributes:
        action: index into the ladder.
        probabilities: one per rung.
        revision: the policy's.
    """

    action: int
    probabilities: tuple[float, ...]
    revision: str


def read_facts(tensors: Mapping[str, Tensor], where: str) -> RouterFacts:
    """Facts from V2's tensors.

    Raises:
        SchemaMismatch: the policy sees another observation, or routes among other rungs.
        ModelError: tensors are missing: it is no router.
    """
    try:
        (schema,) = _texts(tensors[SCHEMA])
        rungs = _texts(tensors[RUNGS])
        (weight,) = tensors[LATENCY_WEIGHT].array().tolist()
        (revision,) = _texts(tensors[REVISION])
    except (KeyError, ValueError, InvalidInput) as error:
        raise ModelError(f"{where} is no router: {error}; check its address") from error
    makers = [maker for maker in MAKERS.values() if maker.schema_hash == schema]
    if not makers or rungs != LADDER:
        built = ", ".join(maker.schema_hash[:12] for maker in MAKERS.values())
        raise SchemaMismatch(
            f"{where} routes among {', '.join(rungs)} by observation schema {schema[:12]}; this "
            f"transformer makes {built} for {', '.join(LADDER)}; deploy both from one "
            "version"
        )
    return RouterFacts(float(weight), revision, makers[0])


def read_decision(
    tensors: Mapping[str, Tensor], parameters: Mapping[str, Parameter], where: str
) -> RouterDecision:
    """The decision for a single observation from V2's tensors.

    Raises:
        ModelError: tensors are missing or do not belong to one observation.
    """
    try:
        actions: npt.NDArray[np.int64] = tensors[ACTION].array()
        shares: npt.NDArray[np.float32] = tensors[PROBABILITIES].array()
        (action,) = actions.tolist()
        (probabilities,) = shares.tolist()
        rung = LADDER[action]
    except (KeyError, ValueError, TypeError, IndexError, InvalidInput) as error:
        raise ModelError(f"{where} decides as no router does: {error}") from error
    if len(probabilities) != len(LADDER) or action < 0:
        raise ModelError(f"{where} gives {len(probabilities)} probabilities for {rung}")
    return RouterDecision(int(action), tuple(probabilities), str(parameters.get(REVISION, "")))


def _texts(tensor: Tensor) -> tuple[str, ...]:
    if not isinstance(tensor.values, tuple):
        raise ValueError(f"{tensor.name} is {tensor.datatype}")
    return tuple(element.decode() for element in tensor.values)
