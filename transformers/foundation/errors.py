"""Every failure a user can meet, with the HTTP status a server answers for it.

::

    GearshiftError                500
    ├── InvalidInput              400   the caller sent something unusable
    │   ├── ImageError            400   not an image, too many pixels, cut short
    │   ├── AnnotationError       400   annotations that are no valid COCO
    │   ├── VideoError            400   a video that does not open or holds no frame
    │   ├── ConfigurationError    400   an option out of its range
    │   ├── PayloadTooLarge       413   more bytes than allowed
    │   └── UnsupportedMedia      415   a format that is not on the list
    ├── ModelError                422   weights that cannot be used
    │   └── SchemaMismatch        409   a policy made for another observation or ladder
    ├── AccessError               401   who asks is not known
    │   └── Forbidden             403   known, but not allowed to do this
    ├── TooManyRequests           429   more frames or requests than agreed
    ├── Unavailable               503   a service does not answer now
    │   └── DeadlineExceeded      504   its answer came too late
    ├── StorageError              507   the disk is full or the folder cannot be written
    ├── PipelineError             500   a pipeline could not run
    │   └── StepFailed            500   one step of it failed
    └── GateRefused               409   a release check did not pass

A message is one line and says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class GearshiftError(Exception):
    """The root: catching it catches every failure that is meant for a user.

    Attributes:
        public: what clients of a service are told, where the message itself names addresses that
            are for its operator; empty where the message is fit for both.
    """

    http_status: ClassVar[int] = 500
    public: str = ""

    @property
    def for_clients(self) -> str:
        """The message as clients of a service may read it."""
        return self.public or str(self)


class InvalidInput(GearshiftError):
    """What the caller gave cannot be used."""

    http_status: ClassVar[int] = 400


class ImageError(InvalidInput):
    """The bytes are no image of a known format, declare too many pixels, or end early."""


class AnnotationError(InvalidInput):
    """The annotations are no valid COCO file, or contradict the images."""


class VideoError(InvalidInput):
    """The video cannot be opened, or holds no frame."""


class ConfigurationError(InvalidInput):
    """An option is out of its range, or options contradict each other."""


class PayloadTooLarge(InvalidInput):
    """More bytes than the receiver allows."""

    http_status: ClassVar[int] = 413


class UnsupportedMedia(InvalidInput):
    """A content type or an image format that is not on the list of allowed ones."""

    http_status: ClassVar[int] = 415


class ModelError(GearshiftError):
    """The weights cannot be used: no ONNX, other tensors, other classes, another digest."""

    http_status: ClassVar[int] = 422


class SchemaMismatch(ModelError):
    """The policy was made for another observation schema or another ladder."""

    http_status: ClassVar[int] = 409


class AccessError(GearshiftError):
    """Who asks is not known: the token is missing or wrong."""

    http_status: ClassVar[int] = 401


class Forbidden(AccessError):
    """The token is known, but its role does not allow this."""

    http_status: ClassVar[int] = 403


class TooManyRequests(GearshiftError):
    """More frames or requests than agreed; the message says when to come back."""

    http_status: ClassVar[int] = 429


class Unavailable(GearshiftError):
    """A service does not answer now; trying again can help."""

    http_status: ClassVar[int] = 503


class DeadlineExceeded(Unavailable):
    """An answer did not come in time."""

    http_status: ClassVar[int] = 504


class StorageError(GearshiftError):
    """A result could not be stored."""

    http_status: ClassVar[int] = 507


class PipelineError(GearshiftError):
    """A pipeline could not be compiled or run."""


class StepFailed(PipelineError):
    """One step of a pipeline failed; the message names it."""


class GateRefused(GearshiftError):
    """The release gate refused the policy; the message names the checks that failed."""

    http_status: ClassVar[int] = 409
