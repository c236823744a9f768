"""One call of the gateway's HTTP API, with failures as the gateway's own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from foundation.errors import (
    ConfigurationError,
    GearshiftError,
    Unavailable,
    error_class,
)
from foundation.service_client import service_client

_TIMEOUT = 90.0
"""Seconds; the gateway may take one minute to try a policy."""


def call_gateway(
    method: str,
    url: str,
    token: str | None = None,
    special: Mapping[int, type[GearshiftError]] | None = None,
    *,
    trust_env: bool = False,
    **request: Any,
) -> dict[str, Any]:
    """Send a request and return the object that is answered; empty where the answer is.

    Args:
        method: of HTTP.
        url: of the gateway, with the path.
        token: access token; none where the gateway is open.
        special: statuses that mean something else here.
        trust_env: whether proxies and certificates come from the environment.
        request: what ``httpx.Client.request`` takes.

    Raises:
        ConfigurationError: the URL is no address.
        Unavailable: no gateway answers there.
        GearshiftError: the failure that the gateway answers.
    """
    headers = {**request.pop("headers", {})}
    if token:
        headers["authorization"] = f"Bearer {token}"
    try:
        with service_client(url, _TIMEOUT, trust_env=trust_env) as client:
            answer = client.request(method, url, headers=headers, **request)
        found = answer.json() if answer.content else {}
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigurationError(f"{url!r} is no gateway; give http://HOST:PORT") from error
    except (httpx.HTTPError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(f"no gateway answers at {url} ({reason}); check that it runs") from None
    if answer.is_error or not isinstance(found, dict):
        detail = found.get("detail") if isinstance(found, dict) else None
        kind = error_class(answer.status_code, special, server_error=Unavailable)
        raise kind(f"{url} answers {answer.status_code}: {detail or 'no reason given'}")
    return found
