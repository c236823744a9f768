"""A service as users start it: a process of its own, reached over real sockets."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from processes import ROOT, environment
from tiny_models import save_policy

from feature_transformer.observation import OBSERVATION_SIZE

START_SECONDS = 240
"""KServe's imports take 4 s on an idle machine, a minute on one that trains."""


class Service:
    """A running service: its addresses, an HTTP client, and its end."""

    def __init__(self, module: str, *arguments: object) -> None:
        """Start it; :meth:`wait` tells when it answers."""
        self._process = start(
            module, "--host", "127.0.0.1", "--http-port", 0, "--grpc-port", 0, *arguments
        )
        self.client = httpx.Client(timeout=60)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def wait(self) -> Service:
        line = self._lines.get(timeout=START_SECONDS)
        assert line, f"the service ended with {self._process.wait()}"
        reported = json.loads(line)
        self.name, self.http, self.grpc = reported["ready"], reported["http"], reported["grpc"]
        self.client.base_url = httpx.URL(f"http://{self.http}")
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def healthy(self) -> bool:
        ready = self.client.get(f"/v2/models/{self.name}/ready")
        return self._process.poll() is None and ready.json() == {"name": self.name, "ready": True}

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> int:
        """Ask it to stop, and give its exit code."""
        self.client.close()
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a module as a program."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if "--log-level" in arguments else None,
        text=True,
    )


def refusal(module: str, *arguments: object) -> tuple[int, str]:
    """Exit code and stderr of a program that is not to start."""
    process = start(module, *arguments, "--log-level", "error")
    _, errors = process.communicate(timeout=START_SECONDS)
    return process.returncode, errors


def brightness_policy(path: Path, latency_weight: float = 0.02, **notes: str) -> Path:
    """A policy that sends bright frames to large, dark ones to nano, and none to small.

    The higher the latency weight, the brighter a frame must be: its logit for nano grows with
    the preference. The load of large counts for nano as well.
    """
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[: 32 * 32, 2] = 20 / (32 * 32)
    weights[-1, 0] = 5  # preference: log10 of the latency weight
    weights[-2, 0] = 10  # load of large, in units of 100 ms
    reported = {"gearshift.latency_weight": str(latency_weight)}
    reported |= {f"gearshift.{key}": text for key, text in notes.items()}
    return save_policy(path, weights, (18.5, -99, 0), reported)


def sentence(answer: httpx.Response) -> str:
    """The one sentence of a refusal."""
    reported: Sequence[str] = list(answer.json())
    assert reported == ["error"], answer.text
    text: str = answer.json()["error"]
    assert text
    assert "\n" not in text
    assert len(text) <= 300
    return text
