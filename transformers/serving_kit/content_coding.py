"""Bodies that a client compressed (Content-Encoding), decoded piece by piece.

A piece is at most 64 KB however well it was packed, so the reader's limit holds for what
comes out, and a bomb ends there.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from foundation.errors import GearshiftError, InvalidInput, UnsupportedMedia

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_PIECE = 65_536
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_CODINGS = ("gzip", "x-gzip", "deflate")


def decoded(coding: str, receive: Receive) -> Receive:
    """A ``receive`` that gives what was compressed.

    Args:
        coding: the request's Content-Encoding.
        receive: the server's; the one given raises ``UnsupportedMedia`` for a coding that is not
            known and ``InvalidInput`` for a body that is not of it, the first time it is called.
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return receive
    if name in _CODINGS:
        return _Decoder(receive)
    known = ", ".join(_CODINGS)
    return _Refusing(
        UnsupportedMedia(f"content-encoding {name[:40]!r} is not read here; send {known} or none"),
        receive,
    )


class _Refusing:
    """Raises once; after that what comes is thrown away."""

    def __init__(self, error: GearshiftError, receive: Receive) -> None:
        self._error: GearshiftError | None = error
        self._receive = receive

    async def __call__(self) -> Message:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        message = await self._receive()
        return {**message, "body": b""} if message["type"] == "http.request" else message


class _Decoder:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._packed = b""
        self._more = True
        self._begun = False
        self._failed: _Refusing | None = None

    async def __call__(self) -> Message:
        if self._failed is not None:
            return await self._failed()
        try:
            return await self._next()
        except (zlib.error, EOFError) as error:
            reason = str(error) or "it ends early"
            self._failed = _Refusing(
                InvalidInput(f"the body does not match its content-encoding: {reason}"),
                self._receive,
            )
            return await self._failed()

    async def _next(self) -> Message:
        if not self._packed:  # also behind the end, where it waits for the client to go
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._packed, self._more = message.get("body", b""), message.get("more_body", False)
        piece = b""
        if self._packed:
            if self._unpacker.eof:  # one gzip file behind another is a gzip file
                self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
            self._begun = True
            piece = self._unpacker.decompress(self._packed, _PIECE)
            self._packed = self._unpacker.unconsumed_tail or self._unpacker.unused_data
        more = bool(self._packed) or self._more
        if not more and self._begun and not self._unpacker.eof:
            raise EOFError
        return {"type": "http.request", "body": piece, "more_body": more}
