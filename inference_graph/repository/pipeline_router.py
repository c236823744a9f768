"""The policy as a step of a pipeline that passes tensors on: the image leaves under a rung's name.

A Seldon Pipeline runs the steps that got their inputs. So the router's answer holds one tensor,
the image that came, named after the rung that shall look at it, and each rung takes the tensor of
its own name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from feature_transformer.image_forms import IMAGE
from feature_transformer.observation import LADDER
from feature_transformer.router_client import RouterClient, Tensors
from feature_transformer.service import MODEL, TransformerOptions, TransformerService
from inference_graph.router.policy import Policy
from inference_graph.router.service import RouterService
from serving_kit.tensors import BYTES, Tensor, TensorFacts, V2Answer, V2Request


class LocalRouter(RouterClient):
    """The router's service in this process, where a transformer expects one elsewhere."""

    def __init__(self, service: RouterService) -> None:
        """Ask a service."""
        super().__init__(service.name, "this process", timeout=0.0)
        self._service = service

    async def ready(self) -> bool:
        """Whether the service can answer now."""
        return await self._service.ready()

    async def close(self) -> None:
        """Close the service."""
        await self._service.close()

    async def _infer(
        self, tensors: Sequence[Tensor], outputs: Sequence[str], headers: Mapping[str, str]
    ) -> Tensors:
        sent = {tensor.name: tensor for tensor in tensors}
        answer = await self._service.answer_v2(V2Request(sent, outputs=tuple(outputs)), headers)
        return {tensor.name: tensor for tensor in answer.outputs}, dict(answer.parameters)


class PipelineRouter(TransformerService):
    """Routes one image; its answer is the image, named after the chosen rung."""

    kind: ClassVar[str] = "transformer"
    outputs: tuple[TensorFacts, ...] = tuple(TensorFacts(rung, BYTES, (1,)) for rung in LADDER)

    def __init__(
        self, policy: Policy, name: str, options: TransformerOptions | None = None
    ) -> None:
        """Serve a policy."""
        super().__init__(lambda: LocalRouter(RouterService(policy, name)), options, name)

    async def answer_v2(self, request: V2Request, headers: Mapping[str, str]) -> V2Answer:
        """The image as it came, as the tensor of the rung that shall look at it.

        Raises:
            InvalidInput: as :meth:`TransformerService.answer_v2`.
        """
        plain = dataclasses.replace(request, outputs=())
        decided = await super().answer_v2(plain, headers)
        tensors = {tensor.name: tensor for tensor in decided.outputs}
        (rung,) = tensors[MODEL].values
        image = dataclasses.replace(tensors[IMAGE], name=bytes(rung).decode())
        return V2Answer((image,), decided.parameters)
