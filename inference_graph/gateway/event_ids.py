"""Event ids that are signed, so that a gateway recognises its own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

_NONCE, _MARK = 20, 12


class EventIds:
    """Makes ids of 32 hexadecimal digits and knows its own again, without keeping any.

    An id is the time in milliseconds, 32 random bits, and 48 bits of an HMAC-SHA256 over both. The
    id of a message has 80 bits of a SHA-256 in place of time and random bits.
    """

    def __init__(self, key: str | None = None) -> None:
        """Sign with a key; a random one without it."""
        self._key = (key or secrets.token_hex(32)).encode()

    def make(self) -> str:
        """A new id."""
        nonce = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        return nonce + self._mark(nonce)

    def of(self, message: str) -> str:
        """The id of a message that may be delivered again: the same for the same key and text."""
        nonce = hashlib.sha256(message.encode()).hexdigest()[:_NONCE]
        return nonce + self._mark(nonce)

    def knows(self, event_id: str) -> bool:
        """Whether the id was made with this key."""
        nonce, mark = event_id[:_NONCE], event_id[_NONCE:]
        if len(event_id) != _NONCE + _MARK or not event_id.isascii():
            return False
        return hmac.compare_digest(self._mark(nonce), mark)

    def _mark(self, nonce: str) -> str:
        return hmac.digest(self._key, nonce.encode(), "sha256").hex()[:_MARK]
