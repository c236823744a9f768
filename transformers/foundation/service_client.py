"""httpx for services of one system: they run beside each other, and no proxy stands between."""

from __future__ import annotations

from collections.abc import Mapping

import httpx


def service_client(
    url: str,
    timeout: float,
    headers: Mapping[str, str] | None = None,
    *,
    trust_env: bool = False,
) -> httpx.Client:
    """A client of a service.

    Args:
        url: where the service answers; paths of requests are relative to it.
        timeout: seconds that connecting and each wait for bytes may take.
        headers: of every request.
        trust_env: whether proxies and certificates come from the environment, for a service that
            may be far away.
    """
    return httpx.Client(
        base_url=url,
        headers=dict(headers or {}),
        timeout=timeout,
        trust_env=trust_env,
        # Without TLS nothing is verified, and loading certificates takes longer than a request.
        verify=url.startswith("https"),
    )


def probe(url: str, timeout: float = 2.0) -> httpx.Response | None:
    """The answer of a service that may not run; None without one."""
    try:
        with service_client(url, timeout) as client:
            return client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
