"""Calling other services over HTTP, without the milliseconds that a client for browsing takes.

aiohttp in place of httpx: on one core a POST of 55 KB and its answer take 0.15 ms with it, of which
it works 0.1, against 0.6 and 0.5 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

__all__ = ["CallFailed", "HttpAnswer", "HttpClient"]

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class CallFailed(Exception):
    """A call got no answer, or one that is not HTTP; the text is the reason."""


@dataclass(frozen=True)
class HttpAnswer:
    """What a service answered.

    Attributes:
        status: HTTP's.
        body: decompressed.
        headers: by name; names match in any case.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]


class HttpClient:
    """Connections to services, kept while they are used; use it on one event loop.

    It knows no proxies, for services of one system run beside each other, and no cookies, for one
    caller's must not be sent with another's request. It has no limits but those of a call.
    """

    def __init__(self, idle_seconds: float) -> None:
        """Prepare; nothing is connected yet.

        Args:
            idle_seconds: how long an unused connection is kept. Shorter than the servers keep it,
                or a request meets a connection that is being closed.
        """
        self._idle_seconds = idle_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Headers = (),
        largest_answer: int | None = None,
    ) -> HttpAnswer:
        """One request, redirects followed; cancel it to give it up.

        Args:
            method: HTTP's.
            url: absolute.
            body: sent as it is.
            headers: beside those that every request needs.
            largest_answer: bytes of an answer at most, decompressed.

        Raises:
            CallFailed: no answer, the connection broke, or the answer is too long.
        """
        try:
            async with self._opened().request(
                method, url, data=body, headers=_pairs(headers)
            ) as response:
                parts = bytearray()
                async for part in response.content.iter_any():
                    parts += part
                    if largest_answer is not None and len(parts) > largest_answer:
                        raise CallFailed(f"the answer has more than {largest_answer} bytes")
                return HttpAnswer(response.status, bytes(parts), response.headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(str(error) or type(error).__name__) from error
        except RuntimeError as error:
            # aiohttp raises it when its session was closed under a request that still runs.
            raise CallFailed(str(error)) from error

    async def close(self) -> None:
        """Close every connection; calls that still run fail."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        """The session: aiohttp makes one on a running loop only."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self._idle_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
        return self._session


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)
