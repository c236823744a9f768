"""The model repository extension over gRPC, as Triton defines it and Seldon's agent calls it.

KServe's servicer has two of its three methods, with other field numbers: its requests carry the
model's name in field 1, where Triton's carry the repository's name and the model's in field 2. So
the messages are built here, from the definition of the extension:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types
from google.protobuf import (  # type: ignore[import-untyped]  # ships no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

_SERVICE = "inference.GRPCInferenceService"
_PACKAGE = "gearshift.repository"  # of the descriptor only; it is not on the wire
_TEXT, _FLAG = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    (descriptor_pb2.FieldDescriptorProto.TYPE_BOOL),
)
_FIELDS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "RepositoryIndexRequest": (("repository_name", _TEXT), ("ready", _FLAG)),
    "ModelIndex": (("name", _TEXT), ("version", _TEXT), ("state", _TEXT), ("reason", _TEXT)),
    "RepositoryIndexResponse": (),
    "RepositoryModelLoadRequest": (("repository_name", _TEXT), ("model_name", _TEXT)),
    "RepositoryModelLoadResponse": (),
    "RepositoryModelUnloadRequest": (("repository_name", _TEXT), ("model_name", _TEXT)),
    "RepositoryModelUnloadResponse": (),
}
"""Fields of each message, numbered from 1."""


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="gearshift/model_repository.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=kind, label=1)
        if name == "RepositoryIndexResponse":
            message.field.add(
                name="models", number=1, type=11, label=3, type_name=f".{_PACKAGE}.ModelIndex"
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _FIELDS
    }


messages = _messages()
"""``RepositoryIndexRequest``, ``RepositoryModelLoadRequest``, ... by name."""


class RepositoryMethods(grpc.aio.ServerInterceptor):
    """Answers the three methods in place of the servicer behind it."""

    def __init__(
        self,
        index: Callable[[bool], Awaitable[list[dict[str, str]]]],
        load: Callable[[str], Awaitable[Any]],
        unload: Callable[[str], Awaitable[Any]],
    ) -> None:
        """Answer by three functions.

        Args:
            index: name and state of the models; of those that are ready only, if True.
            load: load a model by its name.
            unload: unload it.
        """

        async def answer_index(request: Any, _: Any) -> Any:
            found = [messages["ModelIndex"](**one) for one in await index(request.ready)]
            return messages["RepositoryIndexResponse"](models=found)

        async def answer_load(request: Any, _: Any) -> Any:
            await load(request.model_name)
            return messages["RepositoryModelLoadResponse"]()

        async def answer_unload(request: Any, _: Any) -> Any:
            await unload(request.model_name)
            return messages["RepositoryModelUnloadResponse"]()

        self._handlers = {
            f"/{_SERVICE}/{name}": grpc.unary_unary_rpc_method_handler(
                answer,
                request_deserializer=messages[f"{name}Request"].FromString,
                response_serializer=messages[f"{name}Response"].SerializeToString,
            )
            for name, answer in (
                ("RepositoryIndex", answer_index),
                ("RepositoryModelLoad", answer_load),
                ("RepositoryModelUnload", answer_unload),
            )
        }

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """The handler of one of the three, or the servicer's."""
        own = self._handlers.get(handler_call_details.method)
        return own or await continuation(handler_call_details)
