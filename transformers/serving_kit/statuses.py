"""One failure, three ways to say it: an exception, an HTTP status, a gRPC status."""

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
    StorageError,
    TooManyRequests,
    Unavailable,
    UnsupportedMedia,
)

_CLASSES: dict[int, type[GearshiftError]] = {
    400: InvalidInput,
    401: AccessError,
    403: Forbidden,
    409: SchemaMismatch,
    413: PayloadTooLarge,
    415: UnsupportedMedia,
    422: ModelError,
    429: TooManyRequests,
    503: Unavailable,
    504: DeadlineExceeded,
    507: StorageError,
}
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.OUT_OF_RANGE,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
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
    """The failure that another service meant with an HTTP status of 400 or more."""
    known = _CLASSES.get(status)
    if known is None:
        known = InvalidInput if status < 500 else GearshiftError
    return known(one_line(text))


def to_grpc(status: int) -> grpc.StatusCode:
    """The gRPC status for an HTTP status."""
    return _CODES.get(
        status,
        grpc.StatusCode.INVALID_ARGUMENT if status < 500 else grpc.StatusCode.INTERNAL,
    )


def from_grpc(code: grpc.StatusCode, text: str) -> GearshiftError:
    """The failure that another service meant with a gRPC status."""
    return _FAILURES.get(code, GearshiftError)(one_line(text))


def one_line(text: str, limit: int = 300) -> str:
    """A message fit for an answer: one line, no longer than ``limit`` characters."""
    line = " ".join(text.split()) or "no reason given"
    return line if len(line) <= limit else line[: limit - 1] + "…"
