"""The socket that a service listens on, and its address."""

from __future__ import annotations

import socket

from foundation.errors import ConfigurationError

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigurationError: the address is in use or not this machine's.
    """
    place = host.strip("[]")
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    try:
        return socket.create_server((place, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}; choose another address or port"
        ) from error


def url_of(listening: socket.socket) -> str:
    """The URL of a server on this socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
