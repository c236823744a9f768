"""One platform a state folder, and ports that are free: checked before anything is written."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from foundation.errors import GateRefused
from foundation.file_lock import sign_lock, try_file_lock

_LOCK = "up.lock"


@contextmanager
def only_platform(state: Path) -> Iterator[Callable[[str], None]]:
    """Be the only platform of a state folder while the block runs.

    Yields:
        Takes the gateway's address, for the message that another `gearshift up` gets.

    Raises:
        GateRefused: another process is; names it.
        StorageError: the folder cannot be written.
    """
    path = state / _LOCK
    with try_file_lock(path) as stream:
        if stream is None:
            raise GateRefused(_refusal(path))

        def note(gateway: str) -> None:
            text = json.dumps({"pid": os.getpid(), "gateway": gateway})
            sign_lock(stream, path, text.encode())

        note("")
        yield note


def _refusal(path: Path) -> str:
    try:
        found = json.loads(path.read_bytes())
        pid, gateway = int(found["pid"]), str(found["gateway"])
    except (OSError, ValueError, KeyError, TypeError):
        pid, gateway = 0, ""
    facts = [f"pid {pid}"] if pid else []
    facts += [f"gateway {gateway}"] if gateway else []
    who = f" ({', '.join(facts)})" if facts else ""
    end = f"end it with `kill {pid}`" if pid else "end it"
    return (
        f"gearshift up runs on {path.parent} already{who}; use it, {end}, or start another one "
        "with its own --state, --port and --graph-port"
    )


def require_free_ports(host: str, ports: Mapping[str, int]) -> None:
    """Refuse ports that something listens on.

    Args:
        host: the address to listen on.
        ports: by option; 0 takes a free one.

    Raises:
        GateRefused: a port is in use; names it and its option.
    """
    for option, port in ports.items():
        with socket.socket() as probe:
            # As servers do, or connections that have ended would count for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise GateRefused(
                    f"cannot listen on {host}:{port} ({error.strerror}); end what listens there, "
                    f"or give another --{option}, 0 for a free one"
                ) from error
