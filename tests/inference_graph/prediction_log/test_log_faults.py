"""A gateway under a stream is killed, stopped, starved: what clients got, the log has."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from campaign import runs
from gateway_samples import ROWS, SIZE, climbing_weights, jpeg
from log_samples import row
from processes import ROOT, environment, until
from tiny_models import MakeDetector, MakePolicy
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from inference_graph.contract import LADDER
from inference_graph.prediction_log import writer
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

PROMISED_SECONDS = 1.0
"""docs/operations.md: an answer older than this is in the log, whoever kills the gateway."""

ENDED = (0, -signal.SIGTERM)
"""Exit codes of an orderly end."""


class Gateway:
    """A process, and a client that streams to it and notes when it got which answer."""

    def __init__(
        self, log: Path, files: dict[str, Path], policy: Path, variables: dict[str, str]
    ) -> None:
        rungs = [word for name, path in files.items() for word in ("--rung", f"{name}={path}")]
        options = (
            f"--port 0 --open-access --policy {policy} --log-url {log} --shadow-share 0.3 "
            "--statistics-share 0.5 --image-share 0.5 --deadline-ms 10000 --max-deadline-ms 60000"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inference_graph.gateway", *rungs, *options.split()],
            cwd=ROOT,
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.answers: list[tuple[float, str]] = []
        self._streaming = True
        self._thread = threading.Thread(target=lambda: asyncio.run(self._stream()), daemon=True)

    def begin(self) -> None:
        """Stream, once it answers."""
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"].replace("http", "ws")
        self._thread.start()
        until(lambda: self.answers)

    def more(self, count: int = 5) -> None:
        """Wait for further answers."""
        wanted = len(self.answers) + count
        until(lambda: len(self.answers) >= wanted)

    def end_stream(self) -> None:
        self._streaming = False
        self._thread.join(60)

    def end(self, number: int) -> list[tuple[float, str]]:
        """Send a signal; the answers by their age then, in seconds."""
        at = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        self._streaming = False
        self._thread.join(60)
        return [(at - when, event_id) for when, event_id in self.answers]

    async def _stream(self) -> None:
        image = jpeg()
        with suppress(ConnectionClosed, OSError):
            async with connect(f"{self.url}/v1/stream", compression=None) as socket:
                while self._streaming:
                    await socket.send(image)
                    answer = json.loads(await socket.recv())
                    if answer["type"] == "detections":
                        self.answers.append((time.monotonic(), answer["event_id"]))


class Gateways:
    """Starts gateways on one log."""

    def __init__(self, log: Path, files: dict[str, Path], policy: Path) -> None:
        self.log, self._files, self._policy = log, files, policy
        self._started: list[Gateway] = []

    def start(self, **variables: str) -> Gateway:
        """One of this environment, with further variables."""
        self._started.append(Gateway(self.log, self._files, self._policy, variables))
        return self._started[-1]

    def stop(self) -> None:
        for one in self._started:
            one.process.kill()
            one.process.wait()

    def logged(self) -> set[str]:
        """Keys of all rows as readers see them, each once."""
        keys = read_log(str(self.log), columns=["event_id"])["event_id"].to_pylist()
        assert len(keys) == len(set(keys))
        return set(keys)

    def published(self) -> Counter[str]:
        """Keys in all parts, once nothing waits."""
        PredictionLog(LogConfig(str(self.log))).close()
        assert list((self.log / "journal" / "predictions").iterdir()) == []
        parts = self.log.glob("predictions/date=*/hour=*/part-*.parquet")
        return Counter(
            key for part in parts for key in pq.ParquetFile(part).read(["event_id"])[0].to_pylist()
        )


@pytest.fixture
def gateways(
    tmp_path: Path, make_detector: MakeDetector, make_policy: MakePolicy
) -> Iterator[Gateways]:
    files = {
        rung: make_detector(ROWS[: index + 1], size=SIZE, name=f"{rung}.onnx")
        for index, rung in enumerate(LADDER)
    }
    made = Gateways(tmp_path / "log", files, make_policy(climbing_weights(), (0.1, 0, 0)))
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.campaign
def test_a_kill_costs_no_answer_older_than_promised_and_doubles_none(gateways: Gateways) -> None:
    """SIGKILL at any moment; the next gateway publishes what the one before left."""
    oldest, missing, expected = 0.0, 0, set[str]()
    kills, dice = runs(2, 50), random.Random(7)
    upcoming = gateways.start()
    for number in range(kills):
        gateway, upcoming = upcoming, gateways.start() if number + 1 < kills else None
        gateway.begin()
        time.sleep(dice.uniform(0.1, 2.5))
        answers = gateway.end(signal.SIGKILL)
        there = gateways.logged()
        lost = [age for age, event_id in answers if event_id not in there]
        oldest, missing = max([oldest, *lost]), missing + len(lost)
        assert oldest <= PROMISED_SECONDS, (number, lost)
        expected |= {event_id for _, event_id in answers if event_id in there}
    parts = gateways.published()
    assert set(parts.values()) == {1} and set(parts) >= expected
    answered = len(expected) + missing
    print(f"{kills} kills: {missing} of {answered} answers lost, up to {oldest:.3f} s old")


@pytest.mark.campaign
def test_an_orderly_end_costs_no_answer(gateways: Gateways) -> None:
    for _ in range(runs(1, 10)):
        gateway = gateways.start()
        gateway.begin()
        gateway.more(20)
        answers = gateway.end(signal.SIGTERM)
        there = gateways.published()
        assert gateway.process.returncode in ENDED
        assert {event_id for _, event_id in answers} <= set(there)
        assert set(there.values()) == {1}


def test_a_gateway_that_stood_still_was_starved_and_shares_its_log(gateways: Gateways) -> None:
    """SIGSTOP, a full disk, no file descriptors, another gateway on the log that is killed."""
    gateway, other = gateways.start(), gateways.start()
    gateway.begin()
    other.begin()
    gateway.more()
    gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    gateway.process.send_signal(signal.SIGCONT)
    gateway.more()
    with limited(gateway.process.pid, resource.RLIMIT_FSIZE, 1):
        gateway.more(30)  # answers go on; their rows wait in memory
    gateway.more()
    taken = len(os.listdir(f"/proc/{gateway.process.pid}/fd"))
    with limited(gateway.process.pid, resource.RLIMIT_NOFILE, taken):
        gateway.more(30)
    gateway.more()
    killed = other.end(signal.SIGKILL)
    gateway.more()
    gateway.end_stream()
    answers = gateway.end(signal.SIGTERM)
    assert gateway.process.returncode in ENDED
    there = gateways.published()
    assert {event_id for _, event_id in answers} <= set(there)
    assert {event_id for age, event_id in killed if age > PROMISED_SECONDS} <= set(there)
    assert set(there.values()) == {1}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_full_and_then_read_only_costs_no_answer(gateways: Gateways) -> None:
    gateways.log.mkdir()

    def mount(*options: object) -> None:
        subprocess.run(["mount", *map(str, options), str(gateways.log)], check=True)

    try:
        mount("-t", "tmpfs", "-o", "size=3m", "tmpfs")
    except subprocess.CalledProcessError:
        pytest.skip("may not mount")
    try:
        gateway = gateways.start()
        gateway.begin()
        gateway.more()
        filler = gateways.log / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        gateway.more(15)
        filler.unlink()
        gateway.more()
        gateway.end_stream()
        answers = gateway.end(signal.SIGTERM)
        assert gateway.process.returncode in ENDED
        mount("-o", "remount,ro")
        gateway = gateways.start()
        gateway.begin()
        gateway.more(10)  # the log was there before, so rows wait for a disk that takes them
        mount("-o", "remount,rw")
        gateway.more()
        gateway.end_stream()
        answers += gateway.end(signal.SIGTERM)
        there = gateways.published()
        assert {event_id for _, event_id in answers} <= set(there)
        assert set(there.values()) == {1}
    finally:
        gateways.stop()
        subprocess.run(["umount", str(gateways.log)], check=True)


@contextmanager
def limited(pid: int, what: int, value: int) -> Iterator[None]:
    """A limit of another process, for a while."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (value, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def test_a_clock_that_jumps_loses_nothing_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump = 0.0
    clock = time.time
    monkeypatch.setattr(writer.time, "time", lambda: clock() + jump)
    with PredictionLog(LogConfig(str(tmp_path), flush_seconds=0.02, recent_rows=0)) as log:
        for number, jump in enumerate((0.0, -90_000.0, 90_000.0, 0.0, -30 * 86_400.0)):  # noqa: B007
            log.append(row(f"e{number}"))
            assert log.flush()
            # A jump either way closes the journal, and does not wait for the clock to be there.
            until(lambda: number == 0 or log.status.published >= number)  # noqa: B023
    keys = read_log(str(tmp_path), columns=["event_id"])["event_id"].to_pylist()
    assert sorted(keys) == [f"e{number}" for number in range(5)]


FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.campaign
@pytest.mark.skipif(FAKETIME is None or runs(0, 1) == 0, reason="make campaigns, with libfaketime")
def test_a_gateway_whose_clock_jumps_answers_and_logs_on(
    gateways: Gateways, tmp_path: Path
) -> None:
    """The system's clock, as every library of the process sees it."""
    offset = tmp_path / "offset"
    offset.write_text("+0")
    gateway = gateways.start(
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    gateway.begin()
    for jump in ("-90000s", "+90000s", "-400d", "+0"):
        gateway.more(10)
        offset.write_text(jump)
    gateway.more(10)
    gateway.end_stream()
    answers = gateway.end(signal.SIGTERM)
    there = gateways.published()
    assert {event_id for _, event_id in answers} <= set(there)
    assert set(there.values()) == {1}
    days = {path.name for path in gateways.log.glob("predictions/date=*")}
    assert len(days) >= 3  # the jumps were seen
