"""Which headers of a request go on to the steps: those whose name fits a pattern.

Without patterns none does: on a cluster they come from ``headers.propagate`` of the ConfigMap
``inferenceservice-config``, and its default is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from foundation.errors import ConfigurationError

RawHeaders = list[tuple[str, str]]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# These belong to one connection or describe the body and its coding on it: Go's client writes its
# own, so a pattern such as ".*" does not forward them there either. Accept-Encoding is Go's to
# set as well, or it would pass on answers that it cannot read.
_PER_CONNECTION = frozenset(
    {
        "Accept-Encoding",
        "Connection",
        "Content-Length",
        "Expect",
        "Host",
        "Keep-Alive",
        "Proxy-Connection",
        "Te",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    }
)


def canonical(name: str) -> str:
    """A header's name as Go's net/http writes it, for example ``X-Request-Id``.

    KServe's router matches its patterns against this form, whatever the client wrote.
    """
    if not _TOKEN.fullmatch(name):
        return name
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


class HeaderPatterns:
    """Regular expressions over canonical names; one matches when it is found anywhere in it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Read the patterns.

        Raises:
            ConfigurationError: no regular expression. KServe's router logs it and goes on without;
                here a mistyped pattern is refused before the first request misses a header.
        """
        compiled = []
        for pattern in patterns:
            try:
                compiled.append(re.compile(pattern))
            except re.error as error:
                raise ConfigurationError(
                    f"header pattern {pattern!r} is no regular expression: {error}"
                ) from None
        self._patterns = tuple(compiled)

    def chosen(self, headers: Headers) -> RawHeaders:
        """The headers that go on, each value once, in the order they came.

        Bytes beyond ASCII go on as they are where they are UTF-8, as clients write them now; others
        become U+FFFD, for the client that calls the steps writes text only.
        """
        if not self._patterns:
            return []
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        named = ((canonical(name), value) for name, value in pairs)
        return [
            (name, _as_sent(value))
            for name, value in named
            if _TOKEN.fullmatch(name)
            and name not in _PER_CONNECTION
            and any(one.search(name) for one in self._patterns)
        ]


def _as_sent(value: str) -> str:
    """The text of a header's value, which servers hand on with a character for each byte."""
    return value.encode("latin-1", "replace").decode("utf-8", "replace")
