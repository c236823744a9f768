"""Workers that are killed: no answer is lost, doubled or out of order, nor in the log."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaign import runs
from gateway_samples import ROWS, SIZE, jpeg
from kafka_samples import Topics
from processes import ROOT, environment
from tiny_models import MakeDetector

from inference_graph.prediction_log.reader import read_log

CAMERAS = 4


class KilledWorker:
    """The gateway's own process, with Kafka."""

    def __init__(self, topics: Topics, name: str, weights: Path, log: Path) -> None:
        names = topics.names
        self._command = [
            *(sys.executable, "-m", "inference_graph.gateway", "--open-access", "--port", "0"),
            *("--rung", f"nano={weights}", "--always", "nano", "--log-url", str(log)),
            *("--shadow-share", "0", "--bootstrap", topics.broker.bootstrap),
            *("--frames", names["frames"], "--detections", names["detections"]),
            *("--dead-letters", names["dead_letters"], "--group", topics.mark),
            *("--worker", name, "--session-seconds", "6", "--transaction-seconds", "5"),
        ]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )

    def wait(self) -> None:
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["ready"] == "gateway"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(60) in (0, -signal.SIGTERM)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_kills_lose_double_and_reorder_nothing(
    topics: Topics, make_detector: MakeDetector, tmp_path: Path
) -> None:
    draw = random.Random(19)
    weights, log = make_detector(ROWS[:1], size=SIZE), tmp_path / "log"
    camera, image = topics.camera(), jpeg()
    workers = [KilledWorker(topics, name, weights, log) for name in ("one", "two")]
    sent = 0
    try:
        for _ in range(runs(2, 60)):
            victim = draw.choice(workers)
            victim.wait()
            end = time.monotonic() + draw.uniform(0.5, 3)
            while time.monotonic() < end:
                camera.send(image, f"cam-{sent % CAMERAS}")
                sent += 1
                time.sleep(0.01)
            victim.kill()
            victim.start()
        camera.flush()
        answers = topics.read("detections", sent, 240)
        time.sleep(1)
        assert len(topics.read("detections", sent + 1, 10)) == sent  # and no further one
        for one in workers:
            one.wait()
            one.stop()
    finally:
        for one in workers:
            one.kill()
    for index in range(CAMERAS):
        found = [int(x["value"]["frame"]) for x in answers if x["key"] == f"cam-{index}"]
        assert found == list(range(index, sent, CAMERAS))
    rows = read_log(str(log)).column("event_id").to_pylist()
    assert len(rows) == sent
    assert set(rows) == {x["value"]["event_id"] for x in answers}
