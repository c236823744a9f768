"""Asking the router's predictor for a decision, over V2 REST or gRPC."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from feature_transformer.observation import Features
from feature_transformer.router_protocol import (
    FACT_NAMES,
    OBSERVATIONS,
    RouterDecision,
    RouterFacts,
    read_decision,
    read_facts,
)
from foundation.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelError,
    Unavailable,
)
from foundation.http_client import CallFailed, HttpClient
from serving_kit.inference_protocol import InferenceChannel
from serving_kit.statuses import from_http
from serving_kit.tensors import Parameter, Tensor
from serving_kit.v2_rest import HEADER_LENGTH, read_answer, write_request

Tensors = tuple[dict[str, Tensor], dict[str, Parameter]]


class RouterClient(ABC):
    """One router; use it on one event loop.

    Attributes:
        where: its name and address, for messages.
    """

    def __init__(self, model: str, host: str, timeout: float) -> None:
        """Prepare the connection; it is made when first used.

        Args:
            model: the router's model name.
            host: host or host:port.
            timeout: seconds until a call is given up.
        """
        self.where = f"{model} at {host}"
        self._model = model
        self._timeout = timeout
        self._facts: RouterFacts | None = None

    async def facts(self) -> RouterFacts:
        """Facts of the router's policy; asked once, and again when the policy changes.

        Raises:
            SchemaMismatch: it sees another observation, or routes among other rungs.
            Unavailable: the router does not answer.
            DeadlineExceeded: no answer in time.
            ModelError: the address is no router's.
        """
        if self._facts is None:
            tensors, _ = await self._infer((), sorted(FACT_NAMES), {})
            self._facts = read_facts(tensors, self.where)
        return self._facts

    async def decide(self, observation: Features, headers: Mapping[str, str]) -> RouterDecision:
        """The decision for one observation.

        Args:
            observation: float32 [OBSERVATION_SIZE].
            headers: of the request that asks for it; its identifier and token travel along.

        Raises:
            GearshiftError: whatever the router refuses it with, under the same status.
            Unavailable: the router does not answer.
            DeadlineExceeded: no answer in time.
        """
        facts = await self.facts()
        passed = {name: headers[name] for name in _PASSED_ON if name in headers}
        sent = Tensor.of(OBSERVATIONS, observation[np.newaxis])
        decision = read_decision(*await self._infer((sent,), (), passed), self.where)
        if decision.revision != facts.revision:
            self._facts = None  # another policy: it must see the same observation
            await self.facts()
        return decision

    @abstractmethod
    async def ready(self) -> bool:
        """Whether the router is ready to answer now."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    async def _infer(
        self, tensors: Sequence[Tensor], outputs: Sequence[str], headers: Mapping[str, str]
    ) -> Tensors:
        """Tensors and parameters of an answer."""


_PASSED_ON = ("x-request-id", "x-b3-traceid", "authorization")
"""What KServe passes on to a predictor."""
_IDLE_SECONDS = 30.0
"""Shorter than the 65 s after which the server closes an idle connection."""


class RestRouter(RouterClient):
    """A router over V2 REST with binary tensors."""

    def __init__(self, model: str, host: str, timeout: float, use_ssl: bool = False) -> None:
        """Prepare the connection; see :class:`RouterClient`."""
        super().__init__(model, host, timeout)
        scheme = "https" if use_ssl else "http"
        self._url = f"{scheme}://{host}/v2/models/{model}"
        self._client = HttpClient(_IDLE_SECONDS)

    async def ready(self) -> bool:
        """Whether the router is ready to answer now."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._client.call("GET", f"{self._url}/ready")
        except (CallFailed, TimeoutError):
            return False
        return answer.status == 200

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _infer(
        self, tensors: Sequence[Tensor], outputs: Sequence[str], headers: Mapping[str, str]
    ) -> Tensors:
        body, json_length = write_request(tensors, outputs)
        form = {HEADER_LENGTH: json_length, "content-type": "application/octet-stream"}
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._client.call(
                    "POST", f"{self._url}/infer", body, {**headers, **form}
                )
        except TimeoutError as error:
            spent = time.perf_counter() - start
            raise DeadlineExceeded(
                f"{self.where} did not answer within {spent:.1f} s; try again"
            ) from error
        except CallFailed as error:
            raise Unavailable(f"{self.where} does not answer; try again") from error
        if answer.status == 404:
            raise Unavailable(f"{self.where} is no such model; check predictor_name")
        if answer.status != 200:
            raise from_http(answer.status, f"{self.where}: {_reason(answer.body)}")
        try:
            return read_answer(answer.body, answer.headers.get(HEADER_LENGTH))
        except InvalidInput as error:
            raise ModelError(f"{self.where} answers in no V2: {error}") from error


class GrpcRouter(RouterClient):
    """A router over V2 gRPC."""

    def __init__(self, model: str, host: str, timeout: float, use_ssl: bool = False) -> None:
        """Prepare the connection; see :class:`RouterClient`."""
        super().__init__(model, host, timeout)
        self._channel = InferenceChannel(model, host, use_ssl)

    async def ready(self) -> bool:
        """Whether the router is ready to answer now."""
        return await self._channel.ready()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _infer(
        self, tensors: Sequence[Tensor], outputs: Sequence[str], headers: Mapping[str, str]
    ) -> Tensors:
        return await self._channel.infer(
            tensors, self._timeout, outputs=outputs, metadata=tuple(headers.items())
        )


def _reason(body: bytes) -> str:
    """The sentence of a refusal, or the beginning of whatever came instead."""
    try:
        return str(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
