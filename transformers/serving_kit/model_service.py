"""What a service must be able to do; KServe's model server is put around it elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from serving_kit.server_metrics import ServerMetrics
from serving_kit.tensors import TensorFacts, V2Answer, V2Request

V1Body = Mapping[str, Any] | bytes
"""A V1 request: a JSON object, or the bytes of an image sent as the body itself."""


class ModelService(ABC):
    """A model that answers both protocols. Its failures are GearshiftErrors with their status.

    Its coroutines run on the server's event loop and must not hold it: work goes to threads.

    Attributes:
        kind: detector, router or transformer.
        name: the model's name in URLs and gRPC requests.
        inputs: its V2 tensors.
        outputs: the tensors it gives.
    """

    kind: ClassVar[str]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]

    def __init__(self, name: str) -> None:
        """Take a name."""
        self.name = name

    @abstractmethod
    async def start(self, metrics: ServerMetrics) -> None:
        """Begin to work on the running event loop."""

    async def ready(self) -> bool:
        """Whether requests can be answered now."""
        return True

    @abstractmethod
    async def answer_v1(self, body: V1Body, headers: Mapping[str, str]) -> dict[str, Any]:
        """Answer a V1 request.

        Args:
            body: the JSON object or the bare body.
            headers: the request's, with names in lower case.

        Returns:
            What orjson can write.
        """

    @abstractmethod
    async def answer_v2(self, request: V2Request, headers: Mapping[str, str]) -> V2Answer:
        """Answer a V2 request, whether it came over REST or gRPC."""

    @abstractmethod
    async def close(self) -> None:
        """Give back threads and connections."""
