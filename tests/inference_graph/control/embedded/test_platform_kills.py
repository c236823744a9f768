"""Every process of a running platform is killed or stopped in turn, under a stream and requests."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from campaign import runs
from gateway_samples import jpeg
from processes import ROOT, environment, until
from tiny_models import MakePolicy
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from feature_transformer.observation import OBSERVATION_SIZE
from inference_graph.control.embedded.platform import free_ports
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

KILLS = runs(0, 56)
PROMISED_SECONDS = 1.0
"""docs/operations.md: of an answer before the gateway is killed."""

TARGETS = {
    "gateway": "inference_graph.gateway ",
    "graph": "inference_graph.graph ",
    "router": "inference_graph.router ",
    "transformer": "-m feature_transformer --model",
    "nano": "--rung=nano ",
    "small": "--rung=small ",
    "large": "--rung=large ",
    "supervisor": "",
}
"""What stands in the command of each process that is killed."""


class Running:
    """``gearshift up``, and what clients of its gateway and of its graph got."""

    def __init__(self, policy: Path, ladder: Path, state: Path) -> None:
        ports = free_ports()
        gateway, graph = next(ports), next(ports)
        ports.close()
        self.gateway, self.graph = f"127.0.0.1:{gateway}", f"http://127.0.0.1:{graph}"
        self.log = state / "log"
        self._options = [
            *("--policy", policy, "--ladder", ladder, "--state", state, "--open-access"),
            *("--port", gateway, "--graph-port", graph, "--experiment", ""),
            *("--shadow-share", 0.2, "--deadline-ms", 5000, "--ready-seconds", 600),
        ]
        self.answers: list[tuple[float, str]] = []
        self.errors: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.ended = threading.Event()
        self._threads = [
            threading.Thread(target=one, daemon=True)
            for one in (lambda: asyncio.run(self._stream()), self._post)
        ]

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from gearshift import main; main()", "up"]
            + [str(option) for option in self._options],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for_answers(self) -> None:
        """Until every rung is used, and new answers come both ways."""
        until(self._all_rungs, 600)
        streamed, posted = len(self.answers) + 3, self.statuses[200] + 2
        until(lambda: len(self.answers) >= streamed and self.statuses[200] >= posted, 600)

    def _all_rungs(self) -> bool:
        with suppress(httpx.HTTPError, ValueError, KeyError):
            rungs = httpx.get(f"http://{self.gateway}/readyz", trust_env=False).json()["rungs"]
            return set(rungs.values()) == {"healthy"}
        return False

    def pid_of(self, target: str) -> int:
        if target == "supervisor":
            return self.process.pid
        (pid,) = (pid for pid, command in children(self.process.pid) if TARGETS[target] in command)
        return pid

    def processes(self) -> list[int]:
        return [pid for pid, _ in children(self.process.pid)]

    def stop(self) -> None:
        self.ended.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(60)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)

    async def _stream(self) -> None:
        image = jpeg(size=(240, 320))
        while not self.ended.is_set():
            with suppress(ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
                async with connect(f"ws://{self.gateway}/v1/stream", compression=None) as socket:
                    while not self.ended.is_set():
                        await socket.send(image)
                        message = json.loads(await asyncio.wait_for(socket.recv(), 30))
                        if message["type"] == "detections":
                            self.answers.append((time.monotonic(), message["event_id"]))
                        elif message["type"] == "error":
                            self.errors[message["status"]] += 1
            await asyncio.sleep(0.1)

    def _post(self) -> None:
        image = base64.b64encode(jpeg(size=(240, 320))).decode()
        body = {"instances": [{"image": {"b64": image}}]}
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self.ended.is_set():
                with suppress(httpx.HTTPError):
                    self.statuses[client.post(self.graph, json=body).status_code] += 1
                time.sleep(0.1)


def children(pid: int) -> list[tuple[int, str]]:
    """Direct children with their commands."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(OSError):
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
                found.append((int(child), command.decode()))
    return found


@pytest.fixture
def running(make_policy: MakePolicy, sample_ladder: Path, tmp_path: Path) -> Iterator[Running]:
    policy = make_policy(np.zeros((OBSERVATION_SIZE, 3), np.float32), (0.1, 0, 0))
    platform = Running(policy, sample_ladder, tmp_path / "up")
    platform.start()
    try:
        yield platform
    finally:
        platform.stop()


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.skipif(KILLS == 0, reason="starts the whole platform: make campaigns")
def test_whatever_is_killed_or_stopped_costs_what_is_promised(running: Running) -> None:
    """Processes come back; answers are in the log, but for the last second of a killed gateway."""
    dice, may_be_lost = random.Random(11), set[str]()
    running.begin()
    running.wait_for_answers()
    for number in range(KILLS):
        target = list(TARGETS)[number % len(TARGETS)]
        killed = number // len(TARGETS) % 2 == 0 or target == "supervisor"
        time.sleep(dice.uniform(0, 1))
        pid, others = running.pid_of(target), running.processes()
        os.kill(pid, signal.SIGKILL if killed else signal.SIGSTOP)
        if not killed:
            time.sleep(dice.uniform(0.5, 4))
            os.kill(pid, signal.SIGCONT)
        elif target in ("gateway", "supervisor"):
            at = time.monotonic()
            may_be_lost |= {
                event for when, event in running.answers if at - when <= PROMISED_SECONDS
            }
        if target == "supervisor":
            running.process.wait()
            until(lambda left=others: not any(Path(f"/proc/{one}").exists() for one in left), 60)
            running.start()
        running.wait_for_answers()
        keys = read_log(str(running.log), columns=["event_id"])["event_id"].to_pylist()
        assert len(keys) == len(set(keys)), (number, target)
        print(number, target, len(running.answers), dict(running.errors), dict(running.statuses))
    running.stop()
    PredictionLog(LogConfig(str(running.log))).close()
    keys = Counter(read_log(str(running.log), columns=["event_id"])["event_id"].to_pylist())
    missing = {event for _, event in running.answers} - set(keys)
    assert missing <= may_be_lost
    assert set(keys.values()) == {1}
    assert set(running.errors) <= {503, 504} and set(running.statuses) <= {200, 500, 503, 504}
    print(f"{KILLS} faults: {len(missing)} of {len(running.answers)} streamed answers lost")
