"""From an HTTP or gRPC status to the failure that it means, and back."""

from __future__ import annotations

import grpc  # type: ignore[import-untyped]  # ships no types

from foundation.errors import (
    AccessError,
    DeadlineExceeded,
    Forbidden,
    GearshiftError,
    InvalidInput,
    ModelError,
    PayloadTooLarge,
    SchemaMismatch,
    Unavailable,
    error_class,
)

_FAILURES: dict[grpc.StatusCode, type[GearshiftError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: PayloadTooLarge,
    # gRPC itself answers so when a message is longer than the receiver takes.
    grpc.StatusCode.RESOURCE_EXHAUSTED: PayloadTooLarge,
    grpc.StatusCode.UNAUTHENTICATED: AccessError,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.FAILED_PRECONDITION: ModelError,
    grpc.StatusCode.INTERNAL: ModelError,
    grpc.StatusCode.UNKNOWN: ModelError,
    # The address answers, but as another service or for another model.
    grpc.StatusCode.NOT_FOUND: ModelError,
    grpc.StatusCode.UNIMPLEMENTED: ModelError,
}


def from_http(status: int, text: str) -> GearshiftError:
    """The failure that another service of the graph meant with an HTTP status of 400 or more."""
    return error_class(status, {409: SchemaMismatch})(one_line(text))


def to_grpc(status: int) -> grpc.StatusCode:
    """The gRPC status for an HTTP status."""
    if status == 405:  # a method that the service does not have
        return grpc.StatusCode.UNIMPLEMENTED
    return grpc.StatusCode[error_class(status).grpc_status]


def from_grpc(code: grpc.StatusCode, text: str) -> GearshiftError:
    """The failure that another service meant with a gRPC status."""
    return _FAILURES.get(code, GearshiftError)(one_line(text))


def one_line(text: str, limit: int = 300) -> str:
    """A message fit for an answer: one line, no longer than ``limit`` characters."""
    line = " ".join(text.split()) or "no reason given"
    return line if len(line) <= limit else line[: limit - 1] + "…"
