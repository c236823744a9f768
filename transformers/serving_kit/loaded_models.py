"""A server whose models come and go: the model repository extension of the V2 protocol."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from prometheus_client import CollectorRegistry

from foundation.errors import InvalidInput, NotFound
from serving_kit.model_service import ModelService, V1Body
from serving_kit.server_metrics import ServerMetrics
from serving_kit.tensors import V2Answer, V2Request


class LoadedModels(ModelService):
    """The models of one server, loaded and unloaded by request.

    It answers no inference itself: a request goes to the model that it names.

    Attributes:
        models: the services by name.
    """

    kind: ClassVar[str] = "detector"
    inputs = ()
    outputs = ()

    def __init__(self, name: str) -> None:
        """Start without models.

        Args:
            name: the server's.
        """
        super().__init__(name)
        self.models: dict[str, ModelService] = {}
        self._changing = asyncio.Lock()

    @abstractmethod
    def open(self, name: str) -> ModelService:
        """A model of the repository, not started yet; called in a thread.

        Raises:
            NotFound: the repository has no such model.
            GearshiftError: it cannot be loaded.
        """

    async def load(self, name: str, replace: Callable[[ModelService], Awaitable[None]]) -> None:
        """Load a model, or load it again; the one before answers until the new one is ready.

        Args:
            name: of the model.
            replace: has requests answered by the new service, and waits for those that the one
                before is answering; that one is closed then.
        """
        async with self._changing:
            service = await asyncio.to_thread(self.open, name)
            # Metrics of their own: names of metrics may be registered once in a registry, and
            # whoever loads the models counts their requests.
            await service.start(ServerMetrics(service.kind, name, CollectorRegistry()))
            before, self.models[name] = self.models.get(name), service
            await replace(service)
            if before is not None:
                await before.close()

    async def unload(self, name: str) -> None:
        """Close a model and forget it.

        Raises:
            NotFound: it is not loaded.
        """
        async with self._changing:
            service = self.models.pop(name, None)
            if service is None:
                raise NotFound(f"no model {name[:80]!r} is loaded")
            await service.close()

    async def start(self, metrics: ServerMetrics) -> None:
        """Nothing to begin: models begin when they are loaded."""

    async def ready(self) -> bool:
        """Whether every loaded model can answer now."""
        return all([await service.ready() for service in self.models.values()])

    async def answer_v1(self, body: V1Body, headers: Mapping[str, str]) -> dict[str, Any]:
        """Raise InvalidInput: the server is no model."""
        raise InvalidInput(f"{self.name} is a server; name a model that it has loaded")

    async def answer_v2(self, request: V2Request, headers: Mapping[str, str]) -> V2Answer:
        """Raise InvalidInput: the server is no model."""
        raise InvalidInput(f"{self.name} is a server; name a model that it has loaded")

    async def close(self) -> None:
        """Close every model."""
        for name in list(self.models):
            await self.unload(name)
