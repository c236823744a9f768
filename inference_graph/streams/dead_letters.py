"""Messages that cannot be used, published with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.errors import GearshiftError
from inference_graph.streams.messages import OutgoingMessage
from inference_graph.streams.uncommitted import HeldMessage

_DEAD_LETTER_BYTES = 512 * 1024
"""Of a longer message value, headers and key stay in its own topic, where the headers point."""
_HEADER_BYTES = 16
"""What a header takes beside its name and content."""
_KEY_BYTES = 1024
_OWN = "gearshift-"


def dead_letter(
    topic: str, message: HeldMessage, error: GearshiftError, bare: bool = False
) -> OutgoingMessage:
    """A message that cannot be used, with its own key, headers and value, and the reason.

    Args:
        topic: where it goes.
        message: what came.
        error: why it cannot be used.
        bare: whether all of its own stays behind.
    """
    reasons: Mapping[str, str] = {
        "gearshift-error": error.for_clients,
        "gearshift-status": str(error.http_status),
        "gearshift-topic": message.partition[0],
        "gearshift-partition": str(message.partition[1]),
        "gearshift-offset": str(message.offset),
    }
    value = message.value
    key = None if bare or len(message.key or b"") > _KEY_BYTES else message.key
    headers = [
        (name, content or b"")
        for name, content in message.headers or ()
        if not name.lower().startswith(_OWN)  # a sender's own would pass for the worker's
    ]
    used = len(key or b"") + sum(header_bytes(*one) for one in headers)
    if bare or used + len(value or b"") > _DEAD_LETTER_BYTES:
        value = None
        reasons = {**reasons, "gearshift-value": "left out; it is at the offset named"}
    if bare or used > _DEAD_LETTER_BYTES:
        headers = []
        reasons = {**reasons, "gearshift-headers": "left out; they are at the offset named"}
    headers += [(name, text.encode()) for name, text in reasons.items()]
    return OutgoingMessage(topic, key, value, headers)


def header_bytes(name: str, content: bytes | None) -> int:
    """What a header takes in memory and in a message, about."""
    return len(name) + len(content or b"") + _HEADER_BYTES
