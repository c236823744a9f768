"""KServe's model server, taken by its parts, with a service of ours as its only model.

A service that is a :class:`serving_kit.loaded_models.LoadedModels` brings its models itself, and
has them loaded and unloaded by request.

KServe is imported by a function, not by this module: importing it reads ``sys.argv``, brings
pandas along and takes seconds, and a service that refuses its policy must not wait for that.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types

from foundation.errors import Forbidden, GearshiftError, InvalidInput, UnsupportedMedia
from serving_kit.grpc_guard import GrpcGuard
from serving_kit.kserve_errors import answer_errors, explain
from serving_kit.kserve_messages import from_grpc, to_grpc
from serving_kit.loaded_models import LoadedModels
from serving_kit.model_service import ModelService
from serving_kit.repository_rpc import RepositoryMethods
from serving_kit.rest_guard import RestGuard
from serving_kit.server_metrics import ServerMetrics
from serving_kit.statuses import one_line
from serving_kit.tensors import V2Request
from serving_kit.v2_rest import HEADER_LENGTH, read_json, read_request

_JSON = ("application/json", "application/ld+json")
_EVENT = "application/cloudevents+json"
_BARE = "application/octet-stream"
_POLL_SECONDS = 0.01


class KServeParts:
    """One service inside KServe's data plane.

    Attributes:
        app: the ASGI application, with KServe's endpoints and ours before it.
    """

    def __init__(
        self,
        service: ModelService,
        metrics: ServerMetrics,
        max_body_bytes: int,
        body_seconds: float,
    ) -> None:
        """Import KServe and register the service.

        Args:
            service: the model.
            metrics: where answers are counted.
            max_body_bytes: longest request.
            body_seconds: longest wait for a request's body.
        """
        # KServe's endpoints still answer with the class that FastAPI warns of.
        warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
        with _bare_command_line():
            import kserve  # type: ignore[import-untyped]  # ships no types
            from kserve.protocol.rest.server import (  # type: ignore[import-untyped]  # no types
                RESTServer,
            )
        self._service = service
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        repository = kserve.ModelRepository()
        self._extension: Any = _FixedModel()
        if isinstance(service, LoadedModels):
            self._extension = _loading(repository, service)
        else:
            repository.update(_model(service))
        self._plane = _data_plane(repository, service)
        server = RESTServer("kserve.model_server:app", self._plane, self._extension, http_port=0)
        self.app = kserve.model_server.app
        self.app.add_api_route(
            "/v2/models/{model_name}/infer", self._infer(), methods=["POST"], tags=["V2"]
        )
        server.create_application()
        answer_errors(self.app)
        self.app.add_middleware(
            RestGuard, metrics=metrics, max_body_bytes=max_body_bytes, body_seconds=body_seconds
        )

    def grpc_server(self) -> grpc.aio.Server:
        """A gRPC server with KServe's servicer; it must be made on the event loop."""
        from kserve.protocol.grpc import (  # type: ignore[import-untyped]  # ships no types
            grpc_predict_v2_pb2_grpc as stubs,
        )

        interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (GrpcGuard(self._metrics, explain),)
        if isinstance(self._service, LoadedModels):
            own = self._extension
            interceptors += (RepositoryMethods(own.index, own.load, own.unload),)
        server = grpc.aio.server(
            interceptors=interceptors,
            options=(
                ("grpc.max_receive_message_length", self._max_body_bytes),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would silently share its calls.
                ("grpc.so_reuseport", 0),
                # Clients ping idle connections to learn of a dead one; by default the server
                # takes that for an attack.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ),
        )
        servicer = _servicer(self._plane, self._extension)
        stubs.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        return server

    def _infer(self) -> Callable[..., Any]:
        from starlette.requests import Request
        from starlette.responses import Response

        async def infer(model_name: str, request: Request) -> Response:
            """Inference over V2, in JSON or with binary tensors."""
            rest = read_request(await request.body(), request.headers.get(HEADER_LENGTH))
            answer, _ = await self._plane.infer(model_name, rest.request, dict(request.headers))
            body, json_length = rest.write(answer, model_name)
            if json_length is None:
                return Response(body, media_type="application/json")
            return Response(body, media_type=_BARE, headers={HEADER_LENGTH: str(json_length)})

        # FastAPI reads types by name in the module, where these two are not.
        infer.__annotations__ = {"model_name": str, "request": Request, "return": Response}
        return infer


def _model(service: ModelService) -> Any:
    """The service as KServe's Model, which only translates."""
    import kserve
    from kserve.metrics import (  # type: ignore[import-untyped]  # ships no types
        PREDICT_HIST_TIME,
        get_labels,
    )

    class KServeModel(kserve.Model):
        unanswered = 0
        seconds = PREDICT_HIST_TIME.labels(**get_labels(service.name))

        def get_input_types(self) -> list[dict[str, Any]]:
            return [vars(facts) | {"shape": list(facts.shape)} for facts in service.inputs]

        def get_output_types(self) -> list[dict[str, Any]]:
            return [vars(facts) | {"shape": list(facts.shape)} for facts in service.outputs]

        def validate(self, payload: Any) -> Any:
            return payload  # the service checks all of it

        async def predict(
            self, payload: Any, headers: dict[str, str] | None = None, _: Any = None
        ) -> Any:
            return await self.answer(payload, headers or {})

        async def answer(self, payload: Any, headers: Mapping[str, str]) -> Any:
            self.unanswered += 1
            try:
                if isinstance(payload, V2Request):
                    return await service.answer_v2(payload, headers)
                return await service.answer_v1(payload, headers)
            finally:
                self.unanswered -= 1

        async def explain(self, payload: Any, headers: Any = None) -> Any:
            raise NotImplementedError(f"{service.name} explains nothing; use :predict")

    model = KServeModel(service.name)
    model.ready = True
    return model


def _servicer(plane: Any, extension: Any) -> Any:
    """KServe's servicer, with inference by the shortest way.

    KServe's own makes three more objects of each message and passes it through six stages; with a
    network of 5 ms, that is a tenth of the answer.
    """
    from kserve.protocol.grpc.servicer import (  # type: ignore[import-untyped]  # no types
        InferenceServicer,
    )

    class Servicer(InferenceServicer):
        async def ModelMetadata(self, request: Any, context: Any) -> Any:
            _check_version(request.version)
            return await super().ModelMetadata(request, context)

        async def ModelReady(self, request: Any, context: Any) -> Any:
            _check_version(request.version)
            return await super().ModelReady(request, context)

        async def ModelInfer(self, request: Any, context: Any) -> Any:
            _check_version(request.model_version)
            model = plane.get_model_from_registry(request.model_name)  # raises ModelNotFound
            with model.seconds.time():
                asked, raw = from_grpc(request)
                headers = dict(context.invocation_metadata())
                answer = await model.answer(asked, headers)
                return to_grpc(answer, asked.id, model.name, raw)

    return Servicer(plane, extension)


def _check_version(version: str) -> None:
    """A model has one version, which has no name; over REST KServe answers the same with 404."""
    if version:
        raise NotImplementedError("Model versioning not supported yet.")


def _data_plane(repository: Any, service: ModelService) -> Any:
    from kserve.protocol.dataplane import DataPlane  # type: ignore[import-untyped]  # no types

    class Plane(DataPlane):
        async def ready(self) -> bool:
            return await service.ready()

        async def model_ready(
            self, model_name: str, disable_predictor_health_check: bool = False
        ) -> bool:
            known = await super().model_ready(model_name, True)
            # Inference asks with the check disabled: it learns from its own call.
            return bool(known) and (disable_predictor_health_check or await service.ready())

        def decode(
            self,
            body: Any,
            headers: dict[str, str],
            protocol_version: str = "v1",
            model_name: str | None = None,
        ) -> Any:
            try:
                media = headers.get("content-type", "").partition(";")[0].strip().lower()
                if "ce-specversion" in headers or media == _EVENT:
                    return super().decode(body, headers, protocol_version, model_name)
                return _v1_body(body, media), {}
            except GearshiftError:
                raise
            except Exception as error:  # whatever its parsers raise, the caller sent it
                raise InvalidInput(f"the body is no CloudEvent: {one_line(str(error))}") from error

    return Plane(model_registry=repository)


def _v1_body(body: bytes, media: str) -> Mapping[str, Any] | bytes:
    """A V1 request's body: JSON, or an image sent as it is.

    KServe takes JSON for bytes when its content type names a character set.
    """
    if media.startswith(("image/", "audio/")):
        return body
    seems_json = body.lstrip()[:1] in (b"{", b"[")
    if media == _BARE and not seems_json:
        return body
    if media and media not in _JSON and not seems_json:
        raise UnsupportedMedia(
            f"content type {media[:60]!r} is not read here; send application/json, image/jpeg or "
            "audio/wav"
        )
    document = read_json(body)
    if not isinstance(document, dict):
        raise InvalidInput('the body is no JSON object; send {"instances": […]}')
    return document


def _loading(repository: Any, loaded: LoadedModels) -> Any:
    """KServe's extension, which loads models into the service and registers them."""
    from kserve.protocol.model_repository_extension import (  # type: ignore[import-untyped]
        ModelRepositoryExtension,
    )

    class Extension(ModelRepositoryExtension):
        async def load(self, model_name: str) -> None:
            async def replace(service: ModelService) -> None:
                before = repository.models.get(model_name)
                repository.update(_model(service), name=model_name)
                await _answered(before)

            await loaded.load(model_name, replace)

        async def unload(self, model_name: str) -> None:
            await _answered(repository.models.pop(model_name, None))
            await loaded.unload(model_name)

    return Extension(repository)


async def _answered(model: Any) -> None:
    """Wait until a model that gets no further requests has answered those it has."""
    while model is not None and model.unanswered:
        await asyncio.sleep(_POLL_SECONDS)


class _FixedModel:
    """Stands where KServe would let anybody unload the model."""

    async def load(self, model_name: str) -> None:
        raise Forbidden(f"{model_name[:80]!r} is not loaded by request; deploy another server")

    async def unload(self, model_name: str) -> None:
        raise Forbidden(f"{model_name[:80]!r} is not unloaded by request; stop the server")


@contextmanager
def _bare_command_line() -> Iterator[None]:
    """Hide our options from KServe, which parses the command line while it is imported."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments
