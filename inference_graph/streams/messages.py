"""Messages on the topics: CloudEvents 1.0 in binary mode, as the Kafka protocol binding has them.

The key names the camera; attributes travel as headers (``ce_id``, ``ce_source``, ``ce_type``,
``ce_time``, ``content-type``) and the value is the data itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from foundation.errors import InvalidInput, PayloadTooLarge, UnsupportedMedia
from inference_graph.prediction_log.row import check_session

VERSION = 1
"""Version of the schemas; it is the end of every ``ce_type``."""
FRAME, DETECTIONS, SKIPPED, FEEDBACK = (
    f"dev.gearshift.{name}.v{VERSION}" for name in ("frame", "detections", "skipped", "feedback")
)
REFERENCE_TYPE = "application/vnd.gearshift.reference+json"
"""Content type of a frame whose value names the image in a bucket."""
JSON_TYPE = "application/json"
CAMERA_LENGTH = 70
"""Characters of a camera's name at most: it begins the name of its sessions."""

Headers = Mapping[str, str]

_IMAGES = ("image/", "application/octet-stream")
_ID_LENGTH = 200
_KIND = re.compile(r"dev\.gearshift\.([a-z]+)\.v([0-9]{1,4})")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """A frame as its camera published it.

    Attributes:
        camera: key of the message.
        frame_id: ``ce_id``, unique for the source.
        source: ``ce_source``.
        time: ``ce_time``, UTC.
        data: the encoded image, or the JSON of a reference.
        is_reference: whether it is a reference.
    """

    camera: str
    frame_id: str
    source: str
    time: datetime
    data: bytes
    is_reference: bool

    @property
    def identity(self) -> str:
        """Text that is the same whenever the same frame is delivered."""
        return "\n".join((self.source, self.camera, self.frame_id))


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to publish.

    Attributes:
        topic: where.
        key: of the message.
        value: of the message.
        headers: names and bytes, in order.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def read_headers(given: Iterable[tuple[str, bytes | None]] | None) -> dict[str, str]:
    """Headers as text, names in lower case; of a repeated one the last counts.

    Args:
        given: of a message; None where their names are no UTF-8.

    Raises:
        InvalidInput: one is no UTF-8.
    """
    try:
        if given is not None:
            return {name.lower(): (value or b"").decode() for name, value in given}
    except UnicodeDecodeError:
        pass
    raise InvalidInput("a header is no UTF-8; send the headers of CloudEvents")


def read_frame(
    key: bytes | None, value: bytes | None, headers: Headers, limit: int
) -> FrameMessage:
    """A frame out of its message.

    Args:
        key: of the message.
        value: of the message.
        headers: as :func:`read_headers` returns them.
        limit: bytes of an image at most.

    Raises:
        InvalidInput: no camera, no image, a missing or malformed attribute, another version.
        PayloadTooLarge: more bytes than allowed.
        UnsupportedMedia: a content type that is neither an image nor a reference.
    """
    check_type(headers, "frame")
    try:
        camera = (key or b"").decode()
        check_session(camera)
    except (UnicodeDecodeError, InvalidInput) as error:
        raise InvalidInput(
            "the key is no camera's name; give 1 to 70 of A-Z a-z 0-9 . _ - with no dot first"
        ) from error
    if len(camera) > CAMERA_LENGTH:
        raise InvalidInput(f"the key has {len(camera)} characters; {CAMERA_LENGTH} are allowed")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_reference = kind == REFERENCE_TYPE
    if not is_reference and not kind.startswith(_IMAGES):
        raise UnsupportedMedia(
            f"content-type {kind[:60]!r} is none of image/*, application/octet-stream, "
            f"{REFERENCE_TYPE}"
        )
    if not value:
        raise InvalidInput("the value is empty; send an encoded image")
    if len(value) > limit:
        raise PayloadTooLarge(
            f"the value has {len(value)} bytes and {limit} are allowed; send a reference to a "
            "bucket, or a smaller image"
        )
    return FrameMessage(
        camera,
        _attribute(headers, "ce_id"),
        _attribute(headers, "ce_source"),
        _time(headers),
        value,
        is_reference,
    )


def check_type(headers: Headers, wanted: str) -> None:
    """Refuse a message that is no event of this kind and version.

    Raises:
        InvalidInput: states what is missing or which version it has.
    """
    spec = headers.get("ce_specversion", "1.0")
    if spec != "1.0":
        raise InvalidInput(f"ce_specversion is {spec[:20]!r}; send CloudEvents 1.0")
    given = _attribute(headers, "ce_type")
    read = _KIND.fullmatch(given)
    if read is None or read[1] != wanted:
        raise InvalidInput(f"ce_type is {given[:60]!r}; send dev.gearshift.{wanted}.v{VERSION}")
    if int(read[2]) != VERSION:
        raise InvalidInput(
            f"the message has schema version {read[2]} and this worker reads version {VERSION}; "
            f"send dev.gearshift.{wanted}.v{VERSION}, or upgrade the worker"
        )


def event_headers(
    kind: str, event_id: str, source: str, when: datetime, content_type: str = JSON_TYPE
) -> list[tuple[str, bytes]]:
    """Headers of an event.

    Args:
        kind: its ``ce_type``.
        event_id: its ``ce_id``.
        source: its ``ce_source``.
        when: its ``ce_time``.
        content_type: of its value.
    """
    attributes = {
        "ce_specversion": "1.0",
        "ce_type": kind,
        "ce_id": event_id,
        "ce_source": source,
        "ce_time": when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "content-type": content_type,
    }
    return [(name, value.encode()) for name, value in attributes.items()]


def _attribute(headers: Headers, name: str) -> str:
    value = headers.get(name, "")
    if not 1 <= len(value) <= _ID_LENGTH or not _PRINTABLE.fullmatch(value):
        reason = "missing" if name not in headers else "not 1 to 200 printable ASCII characters"
        raise InvalidInput(f"the header {name} is {reason}; send the headers of CloudEvents")
    return value


def _time(headers: Headers) -> datetime:
    text = _attribute(headers, "ce_time")
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            raise InvalidInput(f"ce_time {text[:40]!r} has no time zone; send UTC with Z")
        return when.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"ce_time {text[:40]!r} is no RFC 3339 time") from error
