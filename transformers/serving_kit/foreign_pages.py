"""Cross-site requests: a foreign page makes its visitor's browser send them to this machine.

A service on loopback asks for no token, because only this machine reaches it. A browser on it does
so too, for any page: by a script, or by a name of the page's own that resolves to 127.0.0.1. Both
show in the headers, which a page cannot change.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

FORM_TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""Content types that a page may send anywhere without asking first (the Fetch standard's
"CORS-safelisted request-header")."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def why_foreign(
    headers: Mapping[str, str], hosts: Collection[str] | None, origins: Collection[str] = ()
) -> str | None:
    """Why a request is refused, in a sentence; None if it is not.

    Args:
        headers: of the request, names in lower case.
        hosts: names that the service answers to besides those of loopback; any name without it.
        origins: whose pages are allowed besides the service's own; ``*`` for all.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    name = _name(f"http://{host}") if host else None
    if hosts is not None and host and not _is_own(name, hosts):
        return f"this service is not {host[:80]}; ask 127.0.0.1, or name the host when starting it"
    if origin is not None and (origin in origins or "*" in origins):
        return None
    if origin is not None:
        from_name = _name(origin)
        own = from_name == name if hosts is None else _is_own(from_name, hosts)
        if from_name is None or not own:
            return f"a page of {origin[:80]} may not use this service"
    elif (
        headers.get("sec-fetch-site") == "cross-site"
        and headers.get("sec-fetch-mode") != "navigate"  # a link was followed
    ):
        return "a page of another site may not use this service"
    return None


def hosts_of(listening: str, allowed: str) -> frozenset[str] | None:
    """The names a service answers to.

    Args:
        listening: the address it listens on.
        allowed: names separated by commas; ``*`` for any.

    Returns:
        The names besides loopback's; None where any will do, as on an address that others reach
        by names that are unknown here.
    """
    names = frozenset(filter(None, (name.strip().lower() for name in allowed.split(","))))
    if "*" in names or not (names or is_loopback(listening)):
        return None
    return names


def _is_own(name: str | None, hosts: Collection[str]) -> bool:
    return name is not None and (is_loopback(name) or name in hosts)


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
