"""A gateway as a process of its own, which takes frames from Kafka too where brokers are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil

from foundation.errors import Unavailable
from inference_graph.control.embedded.leash import leashed
from inference_graph.prediction_log.memory import ONE_ALLOCATOR

_END_SECONDS = 60.0


class WorkerProcess:
    """One process; a context manager that ends it.

    Attributes:
        url: of the gateway; known once :meth:`wait` has returned.
    """

    def __init__(self, options: Mapping[str, object], log: Path) -> None:
        """Start it.

        Args:
            options: of ``python -m inference_graph.gateway``; a mapping stands for a repeated one.
            log: file that its output is appended to.
        """
        self._command = [sys.executable, "-m", "inference_graph.gateway", "--open-access"]
        self._command += ["--port=0", "--shadow-share=0"]
        for name, value in options.items():
            pairs = value.items() if isinstance(value, Mapping) else ()
            self._command += [f"--{name}={key}={one}" for key, one in pairs]
            self._command += [] if isinstance(value, Mapping) else [f"--{name}={value}"]
        self._log = log
        self.url = ""
        self.start()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, or start it again."""
        paths = [path for path in sys.path if path]
        environment = {**os.environ, **ONE_ALLOCATOR, "PYTHONPATH": os.pathsep.join(paths)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                leashed(self._command), env=environment, stdout=subprocess.PIPE, stderr=log
            )

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            Unavailable: it ended before.
        """
        output: IO[bytes] | None = self._process.stdout
        line = output.readline() if output is not None else b""
        if not line:
            raise Unavailable(f"the gateway ended at its start; see {self._log}")
        self.url = str(json.loads(line)["url"])

    def resident_bytes(self) -> int:
        """Its resident memory."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def kill(self) -> None:
        """End it with SIGKILL; again it does nothing."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        finally:
            self.kill()
