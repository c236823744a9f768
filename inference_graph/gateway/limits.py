"""How much a client may send: bytes, pixels, formats, and how often."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping

from feature_transformer.image import DecodeLimits, ImageHeader, read_header
from foundation.errors import (
    InvalidInput,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    UnsupportedMedia,
)

_CLIENTS = 10_000
"""Clients a limiter remembers; the one longest silent is forgotten first."""


class RateLimiter:
    """So many per second and client, and some at once."""

    def __init__(self, per_second: float, burst: float | None = None) -> None:
        """Allow a rate.

        Args:
            per_second: events per second and client.
            burst: events at once after a pause; a second's worth without it. At least one.
        """
        self._rate = per_second
        self._burst = max(per_second if burst is None else burst, 1.0)
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str, now: float | None = None) -> float:
        """Take one event, if there is one left.

        Args:
            name: the client.
            now: seconds of a monotonic clock; this machine's without it.

        Returns:
            0 when it was taken; else seconds until one is there, and nothing was taken.
        """
        now = time.monotonic() if now is None else now
        level, since = self._levels.pop(name, (self._burst, now))
        level = min(level + (now - since) * self._rate, self._burst)
        granted = level >= 1.0
        self._levels[name] = (level - 1.0 if granted else level, now)
        if len(self._levels) > _CLIENTS:
            self._levels.popitem(last=False)
        return 0.0 if granted else (1.0 - level) / self._rate

    def take(self, name: str, what: str) -> None:
        """Take one event.

        Args:
            name: the client.
            what: what is counted, for the message.

        Raises:
            TooManyRequests: none is left; the message names the time to wait.
        """
        seconds = self.wait(name)
        if seconds:
            raise TooManyRequests(
                f"{name} sent more than {self._rate:.3g} {what} per second; come back in "
                f"{seconds:.2g} s"
            )


def check_image(data: bytes, limits: DecodeLimits) -> ImageHeader:
    """Refuse an image by its length and header, before anything is decoded.

    Raises:
        PayloadTooLarge: more bytes or pixels than allowed.
        UnsupportedMedia: a format that is not on the list.
        ImageError: no image, or a header that is cut short.
    """
    if len(data) > limits.max_bytes:
        raise PayloadTooLarge(
            f"the image has {len(data)} bytes; {limits.max_bytes} are allowed, send a smaller one"
        )
    header = read_header(data)
    if header.format not in limits.formats:
        raise UnsupportedMedia(
            f"{header.format} images are not accepted here; send {', '.join(limits.formats)}"
        )
    if header.width * header.height > limits.max_pixels:
        raise PayloadTooLarge(
            f"the image declares {header.width}x{header.height} pixels; {limits.max_pixels} are "
            "allowed, send a smaller one"
        )
    return header


async def read_body(
    chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit: int, seconds: float
) -> bytes:
    """Receive a request's body.

    Args:
        chunks: as they come.
        headers: of the request; a length declared too long is refused before it is received.
        limit: bytes at most.
        seconds: time at most.

    Raises:
        PayloadTooLarge: more bytes, declared or received.
        InvalidInput: a declared length that is no number.
        RequestTimeout: it took longer.
    """
    too_large = PayloadTooLarge(f"the body is longer than the {limit} bytes allowed; send less")
    declared = headers.get("content-length")
    if declared is not None:
        if not declared.isascii() or not declared.isdigit():
            raise InvalidInput(f"content-length {declared[:40]!r} is no number of bytes")
        if len(declared) > 15 or int(declared) > limit:
            raise too_large
    pieces: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(seconds):
            async for piece in chunks:
                total += len(piece)
                if total > limit:
                    raise too_large
                pieces.append(piece)
    except TimeoutError as error:
        raise RequestTimeout(
            f"the body did not arrive within {seconds:g} s; send it again"
        ) from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
