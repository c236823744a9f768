"""Origins of web pages: scheme, host and port, as a browser sends them."""

from __future__ import annotations

import re

from foundation.errors import ConfigurationError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def read_origins(text: str, open_access: bool) -> tuple[str, ...]:
    """Origins separated by commas.

    Args:
        text: such as ``https://app.example,http://localhost:3000``; ``*`` for every page.
        open_access: whether no token is asked for, so that ``*`` would let every page in.

    Raises:
        ConfigurationError: one that is no origin, or ``*`` where no token is asked for.
    """
    origins = tuple(filter(None, (one.strip().rstrip("/") for one in text.split(","))))
    for origin in origins:
        if origin == "*":
            if open_access:
                raise ConfigurationError(
                    "origins is * without tokens, which lets every web page in; name the pages, or "
                    "give a tokens file"
                )
            continue
        if not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"origins names {origin[:80]!r}; give scheme://host or scheme://host:port in lower "
                "case, as https://app.example, separated by commas"
            )
    return origins
