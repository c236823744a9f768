"""The Open Inference Protocol over gRPC, as a client needs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grpc  # type: ignore[import-untyped]  # ships no types

from foundation.errors import GearshiftError, InvalidInput, ModelError
from serving_kit.kserve_protobuf import messages
from serving_kit.statuses import from_grpc
from serving_kit.tensors import BYTES, Parameter, Tensor, from_raw, from_values

_SERVICE = "inference.GRPCInferenceService"

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""The field of a tensor's typed contents, by datatype."""
_KEEPALIVE = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A service that vanished without closing its connection is noticed after 10 + 5 s at the
    # latest, and one that came back is tried again within a second.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
)


_BALANCED = (*_KEEPALIVE, ("grpc.lb_policy_name", "round_robin"))
_SEVERAL = ("dns:", "ipv4:", "ipv6:")
"""Forms of a target that stands for all addresses of a name, or lists several."""
RENEW_SECONDS = 30.0
"""How often the addresses of such a name are looked up, so that a new replica gets its share, and
one that ends is left before it does: its manifest has it answer for 45 s more.

By the client: a server that ends connections by their age loses one call in some twenty endings.
"""
_LAST_SECONDS = 30.0
"""What is under way on a connection that was renewed has so long."""


class _Calls(NamedTuple):
    """A connection, and what is asked over it."""

    channel: Any
    infer: Any
    ready: Any


_SELDON_MODEL = "seldon-model"


class InferenceChannel:
    """A connection to one model of a V2 gRPC server; use it on one event loop."""

    def __init__(self, model: str, target: str, use_ssl: bool = False) -> None:
        """Prepare the connection; it is made when first used.

        Args:
            model: the model's name.
            target: host:port, or dns:///host:port for every address that the host has: each takes
                its turn.
            use_ssl: whether the server uses TLS, checked against the machine's own roots.
        """
        self.model = model
        self.target = target
        # What Seldon's Envoy routes by; whoever else is called takes no notice.
        self._metadata = ((_SELDON_MODEL, model),)
        self._use_ssl = use_ssl
        self._several = target.startswith(_SEVERAL)
        self._ending: set[asyncio.Task[None]] = set()
        self._calls = self._opened()

    def _opened(self) -> _Calls:
        options = _BALANCED if self._several else _KEEPALIVE
        if self._several:
            # Its own, or it would take over the addresses that another one looked up.
            options = (*options, ("grpc.use_local_subchannel_pool", 1))
        if self._use_ssl:
            channel = grpc.aio.secure_channel(
                self.target, grpc.ssl_channel_credentials(), options=options
            )
        else:
            channel = grpc.aio.insecure_channel(self.target, options=options)
        self._until = time.monotonic() + RENEW_SECONDS
        return _Calls(
            channel,
            _method(channel, "ModelInfer", messages.ModelInferResponse),
            _method(channel, "ModelReady", messages.ModelReadyResponse),
        )

    def _current(self) -> _Calls:
        """The connection to use now; calls that are under way end on theirs."""
        if self._several and time.monotonic() >= self._until:
            task = asyncio.create_task(self._calls.channel.close(_LAST_SECONDS))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._calls = self._opened()
        return self._calls

    async def infer(
        self,
        tensors: Sequence[Tensor],
        timeout: float,
        parameters: Mapping[str, str] | None = None,
        outputs: Sequence[str] = (),
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[dict[str, Tensor], dict[str, Parameter]]:
        """One inference.

        Args:
            tensors: the inputs, sent as raw bytes.
            timeout: seconds until the call is given up, on both sides.
            parameters: the request's parameters.
            outputs: tensors wanted; the server's choice without any.
            metadata: gRPC metadata.

        Returns:
            Tensors and parameters of the answer, by name.

        Raises:
            Unavailable: the service does not answer.
            DeadlineExceeded: no answer in time.
            InvalidInput: the server refuses what was sent.
            ModelError: the server failed, or answers as none of this protocol.
        """
        request = messages.ModelInferRequest(model_name=self.model)
        for tensor in tensors:
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            request.raw_input_contents.append(tensor.raw())
        for name, text in (parameters or {}).items():
            request.parameters[name].string_param = text
        for name in outputs:
            request.outputs.add(name=name)
        try:
            response = await self._current().infer(
                request, timeout=timeout, metadata=(*self._metadata, *metadata)
            )
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error
        try:
            return _read(response)
        except (InvalidInput, KeyError, IndexError) as error:
            raise ModelError(f"{self.model} at {self.target} answers in no V2: {error}") from error

    async def ready(self, timeout: float = 2.0) -> bool:
        """Whether the model is ready; False as well without an answer within ``timeout`` s."""
        try:
            answer = await self._current().ready(
                messages.ModelReadyRequest(name=self.model),
                timeout=timeout,
                metadata=self._metadata,
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.ready)

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        for task in self._ending:
            task.cancel()
        await self._calls.channel.close()

    def _failure(self, error: grpc.aio.AioRpcError) -> GearshiftError:
        text = error.details() or error.code().name.lower()
        failure = from_grpc(error.code(), f"{self.model} at {self.target}: {text}")
        is_refusal = isinstance(failure, InvalidInput)  # which is about what the client sent
        failure.public = f"{self.model}: {text}" if is_refusal else f"{self.model} does not answer"
        return failure


def read_tensor(described: Any, raw: bytes | None) -> Tensor:
    """A tensor of a message.

    Args:
        described: an InferInputTensor or InferOutputTensor.
        raw: its raw contents; None where it carries typed ones.

    Raises:
        InvalidInput: datatype, shape and contents do not belong together.
    """
    name, datatype, shape = described.name[:80], described.datatype, list(described.shape)
    if raw is not None:
        return from_raw(name, datatype, shape, raw)
    field = CONTENTS.get(datatype)
    data = list(getattr(described.contents, field)) if field is not None else []
    return from_values(name, datatype, shape, data)


def read_parameters(parameters: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters of a message."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
        for name, value in parameters.items()
    }


def _read(response: Any) -> tuple[dict[str, Tensor], dict[str, Parameter]]:
    raw = response.raw_output_contents
    tensors = {
        output.name: read_tensor(output, raw[place] if raw else None)
        for place, output in enumerate(response.outputs)
    }
    return tensors, read_parameters(response.parameters)


def _method(channel: Any, name: str, answer: Any) -> Any:
    return channel.unary_unary(
        f"/{_SERVICE}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
