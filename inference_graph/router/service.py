"""The KServe service of the policy: observations in, rungs and probabilities out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from feature_transformer.observation import OBSERVATION_SIZE
from feature_transformer.router_protocol import (
    ACTION,
    DECIDE_MS,
    FACT_NAMES,
    INPUTS,
    LATENCY_WEIGHT,
    MAX_ROWS,
    OBSERVATIONS,
    OUTPUTS,
    PROBABILITIES,
    REVISION,
    RUNGS,
    SCHEMA,
)
from foundation.errors import InvalidInput
from foundation.metrics import POLICY
from inference_graph.contract import LADDER
from inference_graph.router.policy import Policy
from serving_kit.model_service import ModelService, V1Body
from serving_kit.server_metrics import ServerMetrics
from serving_kit.tensors import Tensor, V2Answer, V2Request, from_values

_Decision = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], float]


class RouterService(ModelService):
    """Answers for one policy; it decides in a thread, so health checks do not wait for it."""

    kind: ClassVar[str] = "router"
    inputs = INPUTS
    outputs = OUTPUTS

    def __init__(self, policy: Policy, name: str = "router") -> None:
        """Serve a policy."""
        super().__init__(name)
        self._policy = policy
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._metrics: ServerMetrics | None = None

    async def start(self, metrics: ServerMetrics) -> None:
        """Begin to count."""
        self._metrics = metrics
        POLICY.expose_info(
            metrics.registry,
            revision=self._policy.revision,
            latency_weight=f"{self._policy.latency_weight:g}",
        )

    async def answer_v1(self, body: V1Body, headers: Mapping[str, str]) -> dict[str, Any]:
        """A rung for every observation of ``{"instances": [[…], …]}``.

        Raises:
            InvalidInput: no rows of OBSERVATION_SIZE finite numbers.
            ModelError: the runtime failed.
        """
        rows = body.get("instances") if isinstance(body, Mapping) else None
        if (
            not isinstance(rows, list)
            or not 1 <= len(rows) <= MAX_ROWS
            or not all(isinstance(row, list) and len(row) == OBSERVATION_SIZE for row in rows)
        ):
            raise InvalidInput(
                f'the body has no observations; send {{"instances": [[…]]}} with 1 to {MAX_ROWS} '
                f"rows of {OBSERVATION_SIZE} numbers"
            )
        tensor = from_values(OBSERVATIONS, "FP32", (len(rows), OBSERVATION_SIZE), rows)
        actions, probabilities, spent = await self._decide(tensor)
        predictions = [
            {ACTION: action, "model": LADDER[action], PROBABILITIES: shares}
            for action, shares in zip(actions.tolist(), probabilities.tolist(), strict=True)
        ]
        return {"predictions": predictions, REVISION: self._policy.revision, DECIDE_MS: spent}

    async def answer_v2(self, request: V2Request, headers: Mapping[str, str]) -> V2Answer:
        """A rung for every row, or the policy's facts if only those are asked for.

        Raises:
            InvalidInput: other tensors than this service takes or gives, or numbers that are
                not finite.
            ModelError: the runtime failed.
        """
        facts = {
            SCHEMA: Tensor.of_text(SCHEMA, (self._policy.maker.schema_hash,)),
            RUNGS: Tensor.of_text(RUNGS, LADDER),
            LATENCY_WEIGHT: Tensor.of(LATENCY_WEIGHT, np.array([self._policy.latency_weight])),
            REVISION: Tensor.of_text(REVISION, (self._policy.revision,)),
        }
        if request.outputs and FACT_NAMES.issuperset(request.outputs):
            return V2Answer(tuple(facts[name] for name in request.outputs))
        actions, probabilities, spent = await self._decide(request.only(OBSERVATIONS))
        tensors = {
            ACTION: Tensor.of(ACTION, actions),
            PROBABILITIES: Tensor.of(PROBABILITIES, probabilities),
        }
        unknown = [name for name in request.outputs if name not in tensors | facts]
        if unknown:
            given = ", ".join(facts.name for facts in OUTPUTS)
            raise InvalidInput(f"there is no output {unknown[0][:60]!r}; ask for {given}")
        wanted = request.outputs or tuple(tensors)
        return V2Answer(
            tuple((tensors | facts)[name] for name in wanted),
            {REVISION: self._policy.revision, DECIDE_MS: spent},
        )

    async def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    async def _decide(self, tensor: Tensor) -> _Decision:
        observations = tensor.array()
        if tensor.datatype != "FP32" or observations.shape[1:] != (OBSERVATION_SIZE,):
            raise InvalidInput(
                f"{OBSERVATIONS} are {tensor.datatype} {list(tensor.shape)}; the policy takes "
                f"FP32 [n, {OBSERVATION_SIZE}]"
            )
        if not 1 <= len(observations) <= MAX_ROWS:
            raise InvalidInput(f"{len(observations)} observations came; send 1 to {MAX_ROWS}")
        if not np.isfinite(observations).all():
            row, column = np.argwhere(~np.isfinite(observations))[0]
            raise InvalidInput(f"observation {row} is not finite at {column}; send finite numbers")
        start = time.perf_counter()
        loop = asyncio.get_running_loop()
        actions, probabilities = await loop.run_in_executor(
            self._pool, self._policy.decide, observations
        )
        spent = (time.perf_counter() - start) * 1e3
        if self._metrics is not None:
            self._metrics.stages({"decide": spent})
        return actions, probabilities, spent
