"""Every failure a user can meet, with the HTTP and the gRPC status a server answers for it.

::

    GearshiftError                500  INTERNAL
    ├── InvalidInput              400  INVALID_ARGUMENT     what was sent is not usable
    │   ├── ImageError            400  INVALID_ARGUMENT     no image, too many pixels, cut short
    │   ├── AnnotationError       400  INVALID_ARGUMENT     annotations that are no valid COCO
    │   ├── VideoError            400  INVALID_ARGUMENT     does not open, or holds no frame
    │   ├── ConfigurationError    400  INVALID_ARGUMENT     an option out of its range
    │   ├── NotFound              404  NOT_FOUND            what is referred to does not exist
    │   ├── RequestTimeout        408  INVALID_ARGUMENT     the request did not arrive in time
    │   ├── Conflict              409  FAILED_PRECONDITION  the state there does not allow it
    │   ├── PayloadTooLarge       413  OUT_OF_RANGE         more bytes than allowed
    │   └── UnsupportedMedia      415  INVALID_ARGUMENT     a format that is not on the list
    ├── ModelError                422  FAILED_PRECONDITION  weights that cannot be used
    │   └── SchemaMismatch        409  FAILED_PRECONDITION  made for another observation or ladder
    ├── AccessError               401  UNAUTHENTICATED      the caller is not known
    │   └── Forbidden             403  PERMISSION_DENIED    known, but not allowed to do this
    ├── TooManyRequests           429  RESOURCE_EXHAUSTED   more frames or requests than agreed
    ├── Unavailable               503  UNAVAILABLE          a service does not answer now
    │   ├── ConnectionLost        503  UNAVAILABLE          a connection has to be made anew
    │   └── DeadlineExceeded      504  DEADLINE_EXCEEDED    its answer came too late
    ├── StorageError              507  RESOURCE_EXHAUSTED   a full disk, a folder not writable
    ├── WebhookRefused            500  INTERNAL             a webhook takes no such message
    ├── PipelineError             500  INTERNAL             a pipeline could not run
    │   └── StepFailed            500  INTERNAL             one step of it failed
    ├── GateRefused               409  FAILED_PRECONDITION  a release check did not pass
    └── SealBroken                409  FAILED_PRECONDITION  not what was sealed before the run

A message is one line: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class GearshiftError(Exception):
    """The root: catching it catches every failure that is meant for a user.

    Attributes:
        public: the message for clients of a service, where the message itself names addresses that
            are for its operator; empty where the message is fit for both.
    """

    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    public: str = ""

    @property
    def for_clients(self) -> str:
        """The message as clients of a service may read it."""
        return self.public or str(self)


class InvalidInput(GearshiftError):
    """What the caller gave cannot be used."""

    http_status: ClassVar[int] = 400
    grpc_status: ClassVar[str] = "INVALID_ARGUMENT"


class ImageError(InvalidInput):
    """The bytes are no image of a known format, declare too many pixels, or end early."""


class AnnotationError(InvalidInput):
    """The annotations are no valid COCO file, or contradict the images."""


class VideoError(InvalidInput):
    """The video cannot be opened, or holds no frame."""


class ConfigurationError(InvalidInput):
    """An option is out of its range, or options contradict each other."""


class NotFound(InvalidInput):
    """What the request refers to does not exist."""

    http_status: ClassVar[int] = 404
    grpc_status: ClassVar[str] = "NOT_FOUND"


class RequestTimeout(InvalidInput):
    """The request did not arrive whole in time."""

    http_status: ClassVar[int] = 408


class Conflict(InvalidInput):
    """The request does not fit the present state: it exists already, or another one is in use."""

    http_status: ClassVar[int] = 409
    grpc_status: ClassVar[str] = "FAILED_PRECONDITION"


class PayloadTooLarge(InvalidInput):
    """More bytes than the receiver allows."""

    http_status: ClassVar[int] = 413
    grpc_status: ClassVar[str] = "OUT_OF_RANGE"


class UnsupportedMedia(InvalidInput):
    """A content type or an image format that is not on the list of allowed ones."""

    http_status: ClassVar[int] = 415


class ModelError(GearshiftError):
    """The weights cannot be used: no ONNX, other tensors, other classes, another digest."""

    http_status: ClassVar[int] = 422
    grpc_status: ClassVar[str] = "FAILED_PRECONDITION"


class SchemaMismatch(ModelError):
    """The policy was made for another observation schema or another ladder."""

    http_status: ClassVar[int] = 409


class AccessError(GearshiftError):
    """Who asks is not known: the token is missing or wrong."""

    http_status: ClassVar[int] = 401
    grpc_status: ClassVar[str] = "UNAUTHENTICATED"


class Forbidden(AccessError):
    """The token is known, but its role does not allow this."""

    http_status: ClassVar[int] = 403
    grpc_status: ClassVar[str] = "PERMISSION_DENIED"


class TooManyRequests(GearshiftError):
    """More frames or requests than agreed; the message states when to come back."""

    http_status: ClassVar[int] = 429
    grpc_status: ClassVar[str] = "RESOURCE_EXHAUSTED"


class Unavailable(GearshiftError):
    """A service does not answer now; trying again can help."""

    http_status: ClassVar[int] = 503
    grpc_status: ClassVar[str] = "UNAVAILABLE"


class ConnectionLost(Unavailable):
    """A connection must be made anew; what was not committed is read again."""


class DeadlineExceeded(Unavailable):
    """An answer did not come in time."""

    http_status: ClassVar[int] = 504
    grpc_status: ClassVar[str] = "DEADLINE_EXCEEDED"


class StorageError(GearshiftError):
    """A result could not be stored."""

    http_status: ClassVar[int] = 507
    grpc_status: ClassVar[str] = "RESOURCE_EXHAUSTED"


class WebhookRefused(GearshiftError):
    """A webhook will not take the message, however often it is sent."""


class PipelineError(GearshiftError):
    """A pipeline could not be compiled or run."""


class StepFailed(PipelineError):
    """One step of a pipeline failed; the message names it."""


class GateRefused(GearshiftError):
    """The release gate refused the policy; the message names the checks that failed."""

    http_status: ClassVar[int] = 409
    grpc_status: ClassVar[str] = "FAILED_PRECONDITION"


class SealBroken(GearshiftError):
    """What was sealed before the run is not what is there now."""

    http_status: ClassVar[int] = 409
    grpc_status: ClassVar[str] = "FAILED_PRECONDITION"


_BY_STATUS: Mapping[int, type[GearshiftError]] = {
    error.http_status: error
    for error in (
        InvalidInput,
        AccessError,
        Forbidden,
        NotFound,
        RequestTimeout,
        Conflict,
        PayloadTooLarge,
        UnsupportedMedia,
        ModelError,
        TooManyRequests,
        Unavailable,
        DeadlineExceeded,
        StorageError,
    )
}


def error_class(
    status: int,
    special: Mapping[int, type[GearshiftError]] | None = None,
    server_error: type[GearshiftError] = GearshiftError,
) -> type[GearshiftError]:
    """The failure that another service means by an HTTP status of 400 or more.

    Args:
        status: HTTP status.
        special: statuses that mean something else in this service.
        server_error: for statuses from 500 on that have no error of their own.
    """
    other = InvalidInput if status < 500 else server_error
    return (special or {}).get(status) or _BY_STATUS.get(status, other)
