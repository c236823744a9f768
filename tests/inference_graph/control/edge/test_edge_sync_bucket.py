"""A device's log on its way to a bucket: killed, cut off, and whole in the end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from buckets import make_bucket, s3_server
from edge_samples import device_rows, log_on_device
from processes import environment, until
from relay import Relay, http_message

from foundation.errors import StorageError
from inference_graph.control.edge.sync import SyncWorker, open_target, sync_log, waiting_bytes
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.session_files import read_sessions

_SYNC = (
    "import sys; from pathlib import Path\n"
    "from inference_graph.control.edge.sync import open_target, sync_log\n"
    "log = Path(sys.argv[2]); sync_log(log, open_target(sys.argv[1], log))\n"
)


class Network(Relay):
    """Between a device and a bucket; it fails the next requests for parts as configured.

    It knows no HEAD, so what is to be read is read directly.
    A part takes three: one begins it, one brings its bytes, one ends it, and then it is there.
    """

    up = True

    def url(self, name: str) -> str:
        return f"s3://devices/{name}?endpoint_override={self.address}&scheme=http&region=us-east-1"

    def direct(self, name: str) -> str:
        host, port = self.server
        return self.url(name).replace(self.address, f"{host}:{port}")

    def pass_on(self, device: socket.socket) -> None:
        with device, socket.create_connection(self.server) as bucket:
            while (request := http_message(device)) and self.up:
                request = re.sub(rb"(?i)expect: *100-continue\r\n", b"", request, count=1)
                line = request[: request.index(b"\r\n")]
                fault = self.faults.pop(0) if self.faults and b".parquet" in line else ""
                if fault == "cut":
                    bucket.sendall(request[: len(request) // 2])
                    return
                if fault == "held":
                    self.held.set()
                    device.recv(1)  # until the device is gone
                    return
                bucket.sendall(request)
                answer = http_message(bucket)
                if fault == "no answer":
                    self.held.set()
                    device.recv(1)
                    return
                if fault == "lost":
                    return
                device.sendall(answer)


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, int]]:
    """An S3 server with the bucket devices; the keys are in the environment meanwhile.

    All of moto's servers in a process have the same buckets, so no other test's may be used.
    """
    with pytest.MonkeyPatch.context() as patched, s3_server(patched) as (host, port):
        make_bucket(f"{host}:{port}", "devices")
        yield host, port


@pytest.fixture
def network(bucket: tuple[str, int]) -> Iterator[Network]:
    network = Network(bucket)
    yield network
    network.close()


def in_the_bucket(network: Network, name: str) -> Counter[str]:
    """How often each row stands in the parts of a log, read without the log's own reader."""
    place = open_place(network.direct(name))
    found: Counter[str] = Counter()
    for part in place.parts("predictions"):
        with place.opened(part) as source:
            found.update(pq.read_table(source, columns=["event_id"])["event_id"].to_pylist())
    return found


def once(count: int) -> Counter[str]:
    return Counter(f"d-{number}" for number in range(count))


def killed_while_held(network: Network, name: str, log: Path) -> None:
    """Sync in a process of its own, and kill it where a request is held."""
    network.held.clear()
    command = [sys.executable, "-c", _SYNC, network.url(name), str(log)]
    process = subprocess.Popen(command, env=environment())
    assert network.held.wait(120)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_a_device_is_killed_anywhere_on_the_way(network: Network, tmp_path: Path) -> None:
    """SIGKILL before a part is there, between two parts of a file, and after the last of them."""
    log = tmp_path / "device"
    for number, faults in enumerate(
        (
            ["", "held"],  # the part was begun, its bytes did not arrive
            ["", "", "no answer"],  # the first part is there, the second not begun
            [*[""] * 5, "no answer"],  # both parts are there, and the file on the device too
        )
    ):
        log_on_device(log, device_rows("d", 3 * number, 3), session=f"d{number}")
        network.faults = faults
        killed_while_held(network, "killed", log)
        assert waiting_bytes(log) > 0
        network.faults = []
    summary = sync_log(log, open_target(network.url("killed"), log))
    assert summary.left_bytes == waiting_bytes(log) == 0
    assert in_the_bucket(network, "killed") == once(9)
    sessions = read_sessions(network.direct("killed"), tmp_path / "none").values()
    assert sorted(one.session for one in sessions) == ["d0", "d1", "d2"]
    assert not list(log.rglob("*.json"))


def test_a_network_that_comes_and_goes(network: Network, tmp_path: Path) -> None:
    """Requests that break off, answers that get lost, then nothing at all for a while."""
    log, reported = tmp_path / "device", list[str]()
    log_on_device(log, device_rows("d", 0, 6))
    network.faults = ["cut", "", "lost", "cut", "", "", "lost"]
    target = open_target(network.url("flapping"), log)
    sync_log(log, target)  # what the client of the bucket tries again by itself
    assert in_the_bucket(network, "flapping") == once(6)
    network.up = False
    log_on_device(log, device_rows("d", 6, 3))
    with pytest.raises(StorageError, match="devices/flapping cannot be written"):
        sync_log(log, open_target(network.url("flapping"), log))
    assert waiting_bytes(log) > 0
    with SyncWorker(log, target, 1, reported.append):
        until(lambda: reported)
        log_on_device(log, device_rows("d", 9, 3))
        network.up = True
        until(lambda: not waiting_bytes(log))
        until(lambda: reported[1:])
    assert reported[1:] == ["the log is synced to s3://devices/flapping again"]
    assert in_the_bucket(network, "flapping") == once(12)
