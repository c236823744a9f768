"""What stands before a gRPC server: every failure leaves with its own status and one sentence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

from serving_kit.server_metrics import ServerMetrics
from serving_kit.statuses import one_line, to_grpc

_log = logging.getLogger("gearshift.server")
_UNREADABLE = object()


class GrpcGuard(grpc.aio.ServerInterceptor):
    """Turns exceptions into statuses and counts answers."""

    def __init__(
        self, metrics: ServerMetrics, explain: Callable[[Exception], tuple[int, str] | None]
    ) -> None:
        """Wrap a gRPC servicer.

        Args:
            metrics: where answers are counted.
            explain: HTTP status and message of an exception; None for an unexpected one.
        """
        self._metrics = metrics
        self._explain = explain

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Put the guard around one method."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def read(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except DecodeError:
                return _UNREADABLE  # gRPC itself would call this the server's fault

        async def behaviour(request: Any, context: Any) -> Any:
            start = time.perf_counter()
            code, text = 500, "the server failed on this request; see its log"
            try:
                if request is not _UNREADABLE:
                    answer = await handler.unary_unary(request, context)
                    self._metrics.answered("grpc", 200, time.perf_counter() - start)
                    return answer
                code, text = 400, "the message is no request of this method"
            except asyncio.CancelledError:  # the caller has gone, or its deadline has passed
                self._metrics.answered("grpc", 499, time.perf_counter() - start)
                raise
            except Exception as error:
                known = self._explain(error)
                if known is None:
                    _log.exception("%s failed", handler_call_details.method)
                else:
                    code, text = known
            self._metrics.answered("grpc", code, time.perf_counter() - start)
            return await context.abort(to_grpc(code), one_line(text))

        return grpc.unary_unary_rpc_method_handler(
            behaviour, request_deserializer=read, response_serializer=handler.response_serializer
        )
