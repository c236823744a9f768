"""Refused requests: logged, and limited per address."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from foundation.errors import AccessError, Forbidden, TooManyRequests
from inference_graph.gateway.access import Access, Client, Role, bearer_token, digest_of
from inference_graph.gateway.limits import RateLimiter

_log = logging.getLogger("gearshift.access")

_LINES_PER_SECOND, _LINES_AT_ONCE = 1.0, 60.0
"""A flood of refusals must not fill the disk that the log is on."""
_SHOWN = 12
"""Digits of a token's digest: enough to find it in a tokens file, none of the token itself."""


class Refusals:
    """Decides as an :class:`Access` does, and remembers who was refused.

    A good token is let in however many bad ones came from its address before: many clients may
    share one, behind a proxy.
    """

    def __init__(self, access: Access, per_minute: float) -> None:
        """No client was refused yet.

        Args:
            access: decides.
            per_minute: unknown tokens that an address may try; further ones are answered 429.
        """
        self._access = access
        self._tries = RateLimiter(per_minute / 60, burst=per_minute)
        self._lines = RateLimiter(_LINES_PER_SECOND, burst=_LINES_AT_ONCE)
        self._unlogged = 0
        self._lock = threading.Lock()

    async def prepare(self, headers: Mapping[str, str]) -> None:
        """See :meth:`Access.prepare`."""
        await self._access.prepare(headers)

    def check(
        self, headers: Mapping[str, str], role: Role, address: str, known: bool = False
    ) -> Client:
        """Who asks; see :meth:`Access.check`.

        Args:
            headers: of the request, names in lower case.
            role: what is asked for.
            address: where the request came from.
            known: whether it was let in before, as an open stream was; then it tries nothing.

        Raises:
            AccessError: no token, or an unknown one.
            Forbidden: a known one without the role.
            TooManyRequests: too many unknown ones from this address.
        """
        try:
            return self._access.check(headers, role)
        except AccessError as error:
            with self._lock:
                self._log_refusal(headers, role, address, error)
                known = known or isinstance(error, Forbidden)
                seconds = 0.0 if known else self._tries.wait(address, time.monotonic())
            if seconds:
                raise TooManyRequests(
                    f"too many unknown tokens from {address}; try again in {seconds:.1f} s"
                ) from error
            raise

    def _log_refusal(
        self, headers: Mapping[str, str], role: Role, address: str, error: AccessError
    ) -> None:
        if self._lines.wait("", time.monotonic()):
            self._unlogged += 1
            return
        token = bearer_token(headers.get("authorization", ""))
        shown = f"token {digest_of(token)[:_SHOWN]}" if token else "no token"
        more = f" ({self._unlogged} more were not logged)" if self._unlogged else ""
        self._unlogged = 0
        _log.warning(
            "refused %d: %s, %s, asked for %s: %s%s",
            error.http_status,
            address,
            shown,
            role,
            error,
            more,
        )
