"""What tests that start processes share: their environment, a closed port, and waiting."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Answer = TypeVar("_Answer")

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """This process's, with a path to the product and to the tests' helpers."""
    paths = (ROOT / "transformers", ROOT, Path(__file__).parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def closed_port() -> int:
    """A port of this machine without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def until(ask: Callable[[], _Answer], seconds: float = 120) -> _Answer:
    """What ``ask`` answers, once that is true: a moment later, or long after on a busy machine."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"it did not come about within {seconds:g} s"
        time.sleep(0.05)
    return answer
