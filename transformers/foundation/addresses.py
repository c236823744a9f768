"""Addresses of services and places, as people write them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from foundation.errors import ConfigurationError


def split_address(url: str) -> SplitResult:
    """The parts of an address, its port checked.

    Raises:
        ConfigurationError: brackets, port or host are none; the message leaves out credentials.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only now
    except ValueError as error:
        shown = url.rpartition("@")[2][:100]
        raise ConfigurationError(f"the address {shown!r} cannot be read: {error}") from error
    return parts
