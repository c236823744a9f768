"""What whoever has a device's token can bring is bounded and sound, and named before it goes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from edge_samples import NOON, device_rows, log_on_device, published
from gateway_samples import Served, gateway_settings, jpeg, served, troubled_rungs
from json_server import JsonHandler, json_server
from log_samples import row
from processes import ROOT, environment, until
from tiny_models import MakeDetector

from foundation.errors import InvalidInput, Unavailable
from inference_graph.contract import LADDER
from inference_graph.control.edge.sync import open_target, sync_log, waiting_bytes
from inference_graph.prediction_log import journal_format, received
from inference_graph.prediction_log.amendments import Amendment
from inference_graph.prediction_log.columns import AMENDED, PREDICTIONS, to_batch
from inference_graph.prediction_log.journal import Journal
from inference_graph.prediction_log.memory import ONE_ALLOCATOR
from inference_graph.prediction_log.received import check_received
from inference_graph.prediction_log.row import SCHEMA, PredictionRow

NAME = "20260504T123000-0123abcd-000001.journal"


@pytest.fixture
def platform(make_detector: MakeDetector, tmp_path: Path) -> Iterator[Served]:
    settings = gateway_settings(log_url=str(tmp_path / "platform"), image_share=0.0)
    with served(settings, troubled_rungs(make_detector)) as gateway:
        yield gateway


def journal_of(path: Path, *batches: pa.RecordBatch) -> bytes:
    journal = Journal(path, SCHEMA)
    for batch in batches:
        journal.append(batch)
    journal.close()
    return path.read_bytes()


def rows_batch(rows: list[PredictionRow]) -> pa.RecordBatch:
    return to_batch(PREDICTIONS, rows)


def put(gateway: Served, data: bytes, name: str = NAME) -> httpx.Response:
    params = {"sha256": hashlib.sha256(data).hexdigest()}
    return gateway.http.put(f"/v1/log/predictions/{name}", content=data, params=params, timeout=120)


def test_no_device_replaces_an_answer_of_the_gateway(platform: Served, tmp_path: Path) -> None:
    image = {"content-type": "image/jpeg"}
    given = platform.http.post("/v1/detect", content=jpeg(), headers=image).json()["event_id"]
    rows = [*device_rows("d", 0, 3), row(event_id=given, time=NOON)]
    refused = put(platform, journal_of(tmp_path / "forged", rows_batch(rows)))
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        f"{NAME} has an answer that this gateway gave itself",
    )
    assert put(platform, journal_of(tmp_path / "own", rows_batch(rows[:3]))).json()["rows"] == 3


class TestWhoNamesWhatItTook:
    """A device removes nothing that the other side has not named by rows and digest."""

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("text/html", "<html>Welcome to Café Net, please log in</html>"),
            ("application/json", "{}"),
            ("application/json", '{"rows": 3}'),
            ("application/json", '{"rows": 3, "sha256": "%s"}' % ("0" * 64)),
            ("application/json", "[3]"),
        ],
    )
    def test_a_captive_portal(self, tmp_path: Path, kind: str, body: str) -> None:
        log = tmp_path / "device"
        log_on_device(log, device_rows("d", 0, 3), session="d")
        before = {path: path.read_bytes() for path in log.rglob("*") if path.is_file()}
        with (
            answering(lambda data: (200, kind, body)) as url,
            pytest.raises(
                Unavailable, match="does not name the 3 rows and the digest of .* which stays here"
            ),
        ):
            sync_log(log, open_target(url, log))
        assert {path: path.read_bytes() for path in log.rglob("*") if path.is_file()} == before

    def test_of_a_summary_too(self, tmp_path: Path) -> None:
        log = tmp_path / "device"
        log_on_device(log, device_rows("d", 0, 1), session="d")

        def first_only(data: bytes) -> tuple[int, str, str]:
            rows = 0 if data.startswith(b"{") else 1
            named = {"rows": rows, "sha256": hashlib.sha256(data if rows else b"").hexdigest()}
            return 200, "application/json", json.dumps(named)

        with answering(first_only) as url, pytest.raises(Unavailable, match="does not name"):
            sync_log(log, open_target(url, log))
        assert waiting_bytes(log) == 0
        assert len(list((log / "journal" / "sessions").glob("[!.]*.json"))) == 1


@contextmanager
def answering(answer: Callable[[bytes], tuple[int, str, str]]) -> Iterator[str]:
    """A server that answers every PUT like this."""

    class Handler(JsonHandler):
        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            status, kind, body = answer(data)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

    with json_server(Handler) as url:
        yield url


class TestBounds:
    def test_how_far_it_inflates(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The heads state it: nothing is inflated to find out."""
        batch = rows_batch([row(f"e{number}", observation=[0.0] * 1000) for number in range(200)])
        path = tmp_path / NAME
        data = journal_of(path, batch, batch)
        assert len(data) < batch.nbytes / 10
        monkeypatch.setattr(received, "INFLATED_LIMIT", 3 * batch.nbytes)
        assert check_received(path, NAME) == 400
        monkeypatch.setattr(received, "INFLATED_LIMIT", batch.nbytes)
        monkeypatch.setattr(journal_format, "_inflated", pytest.fail)
        with pytest.raises(InvalidInput, match="inflates to .* are allowed"):
            check_received(path, NAME)

    def test_a_payload_that_lies_about_it(self, tmp_path: Path) -> None:
        """The head of 17 KB states 1 MB, its payload inflates to 4 MB."""
        message = pa.py_buffer(bytes(4_000_000))
        frame = journal_format.pack(journal_format.Kind.ROWS, message, 1, 0)
        short = pa.py_buffer(bytes(1_000_000))
        lying = journal_format.pack(journal_format.Kind.ROWS, short, 1, 0)
        payload = frame[journal_format.HEAD_BYTES :]
        assert len(payload) < 20_000 and journal_format._inflated(payload, 1_000_000) is None
        path = tmp_path / NAME
        path.write_bytes(journal_of(tmp_path / "b.journal") + lying)
        with pytest.raises(InvalidInput):
            check_received(path, NAME)

    def test_rows_and_hours(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [row(f"e{number}", time=NOON + timedelta(hours=number)) for number in range(201)]
        with pytest.raises(InvalidInput, match="more than the 200 hours"):
            journal_of(tmp_path / NAME, rows_batch(rows))
            check_received(tmp_path / NAME, NAME)
        path = tmp_path / "b.journal"
        journal_of(path, rows_batch(rows[:50]), rows_batch(rows[50:100]))
        assert check_received(path, NAME) == 100
        monkeypatch.setattr(received, "ROWS_LIMIT", 99)
        with pytest.raises(InvalidInput, match="more than the 99 rows"):
            check_received(path, NAME)

    def test_amendments_are_not_taken(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / NAME, SCHEMA)
        journal.append(rows_batch([row("e0")]))
        journal.amend(to_batch(AMENDED, [Amendment("e0", {"blur": 1.0})]))
        journal.close()
        with pytest.raises(InvalidInput, match="no frame of rows"):
            check_received(tmp_path / NAME, NAME)

    def test_many_tiny_rows_hold_up_no_one(self, platform: Served, tmp_path: Path) -> None:
        count = 190_000
        keys = pa.array([f"e{number}" for number in range(count)])
        times = pa.array(np.full(count, int(NOON.timestamp() * 1e6)), SCHEMA.field("time").type)
        schema = pa.schema([SCHEMA.field("event_id"), SCHEMA.field("time")])
        journal = Journal(tmp_path / NAME, schema)
        for start in range(0, count, 50_000):
            part = [column.slice(start, 50_000) for column in (keys, times)]
            journal.append(pa.RecordBatch.from_arrays(part, schema=schema))
        journal.close()
        longest, done = 0.0, threading.Event()

        async def pulse() -> None:
            """The longest that the gateway's loop did not get to its next task."""
            nonlocal longest
            while not done.is_set():
                before = time.thread_time()
                await asyncio.sleep(0.005)
                longest = max(longest, time.thread_time() - before)

        watching = asyncio.run_coroutine_threadsafe(pulse(), platform.loop)
        answer = put(platform, (tmp_path / NAME).read_bytes())
        assert answer.json()["rows"] == count
        until(lambda: not list((tmp_path / "platform/journal/predictions").glob("*.journal")))
        done.set()
        watching.result(30)
        # Processor time of the loop's own thread: none of the work is done there.
        assert longest < 0.3

    def test_what_swells_takes_no_memory(self, tmp_path: Path) -> None:
        """In a process as it is deployed: what Arrow compressed, and as much as is allowed."""
        rungs = [word for name in LADDER for word in ("--rung", f"{name}=127.0.0.1:1")]
        log = tmp_path / "log"
        options = f"--port 0 --open-access --always nano --log-url {log}"
        process = subprocess.Popen(
            [sys.executable, "-m", "inference_graph.gateway", *rungs, *options.split()],
            cwd=ROOT,
            env=environment() | ONE_ALLOCATOR,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            before = memory(process.pid)
            blank = np.zeros(6000, np.float32)
            swollen = [
                rows_batch([row(f"e{part}-{one}", observation=blank) for one in range(1200)])
                for part in range(2)
            ]
            old = [SCHEMA.serialize(), compressed(pa.concat_batches(5 * swollen))]
            framed = [struct.pack("<II", len(one), zlib.crc32(one)) + one for one in old]
            data = {400: b"GEARLOG1" + b"".join(framed), 200: journal_of(tmp_path / NAME, *swollen)}
            assert all(len(one) < 2_000_000 for one in data.values())
            for status, one in data.items():
                where = f"{url}/v1/log/predictions/{NAME}"
                params = {"sha256": hashlib.sha256(one).hexdigest()}
                answer = httpx.put(where, content=one, params=params, timeout=120)
                assert answer.status_code == status, answer.text
            until(lambda: not list((log / "journal" / "predictions").glob("*")))
            assert memory(process.pid) - before < 200
        finally:
            process.kill()
            process.wait()

    def test_no_more_uploads_than_there_are_places_for(
        self, platform: Served, tmp_path: Path
    ) -> None:
        data = journal_of(tmp_path / NAME, rows_batch(device_rows("d", 0, 1)))
        head = (
            f"PUT /v1/log/predictions/{NAME}?sha256={'0' * 64} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"content-length: {len(data)}\r\n\r\n"
        ).encode()
        slow = [socket.create_connection(platform.address) for _ in range(2)]
        incoming = tmp_path / "platform" / "journal" / "incoming"
        try:
            for one in slow:
                one.sendall(head + data[:10])
            until(lambda: len(list(incoming.glob("*"))) == 2)
            assert put(platform, data).status_code == 503
        finally:
            for one in slow:
                one.close()
        until(lambda: not list(incoming.glob("*")))
        assert put(platform, data).json()["rows"] == 1


def memory(pid: int) -> float:
    """Megabytes that a process had resident at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def compressed(batch: pa.RecordBatch) -> bytes:
    """A message as Arrow writes it compressed, which this log never does."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    _, message = pa.ipc.MessageReader.open_stream(pa.BufferReader(sink.getvalue()))
    return message.serialize().to_pybytes()


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("scores", [[0.5, 0.4]], "boxes, scores and labels do not belong together"),
        ("boxes", [[1.0, 2.0, 3.0]], "boxes, scores and labels do not belong together"),
        ("labels", [[]], "boxes, scores and labels do not belong together"),
        ("texts", [["a", "b"]], "texts are not one for each region"),
        ("shadow_texts", [["a"]], "shadow_texts are not one for each region"),
        ("shadow_scores", [[0.5]], "shadow_boxes, shadow_scores and shadow_labels do not"),
        ("detections", [7], "counts other detections than it has"),
        ("image_kept", [True], "wrong about having an image"),
        ("rung", ["huge"], "a rung 'huge', which is none"),
        ("answered_by", ["huge"], "a answered_by 'huge', which is none"),
        ("source", ["elsewhere"], "a source 'elsewhere', which is none"),
        ("fallback", ["tired"], "a fallback 'tired', which is none"),
        ("probabilities", [[0.5, 0.5]], "probabilities of other than 3 rungs"),
        ("event_id", ["a b"], "event id that is not 1 to 200 printable ASCII"),
        ("event_id", [""], "event id that is not 1 to 200 printable ASCII"),
        ("event_id", ["e" * 201], "event id that is not 1 to 200 printable ASCII"),
        ("event_id", ["é"], "event id that is not 1 to 200 printable ASCII"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(
    tmp_path: Path, column: str, values: list[Any], reason: str
) -> None:
    seen = {"boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [1], "probabilities": [1, 0, 0]}
    sound = rows_batch([row("e0", rung="nano", **seen)])
    check_path = tmp_path / "sound.journal"
    journal_of(check_path, sound)
    assert check_received(check_path, NAME) == 1
    index = SCHEMA.names.index(column)
    odd = sound.set_column(index, SCHEMA.field(index), pa.array(values, SCHEMA.field(index).type))
    journal_of(tmp_path / NAME, odd)
    with pytest.raises(InvalidInput, match=reason):
        check_received(tmp_path / NAME, NAME)


def test_buffers_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    """Offsets beyond the text: reading them would read other memory, or end the process."""
    batch = rows_batch([row("e0")])
    data = bytearray(batch.serialize().to_pybytes())
    at = data.index(b"e0")  # the text; its offsets 0 and 2 stand before it
    offsets = data.rindex(np.array([0, 2], np.int32).tobytes(), 0, at)
    data[offsets : offsets + 8] = np.array([0, 2**30], np.int32).tobytes()
    path = tmp_path / NAME
    journal = Journal(path, SCHEMA)
    journal.close()
    frame = journal_format.pack(journal_format.Kind.ROWS, pa.py_buffer(bytes(data)), 1, 0)
    path.write_bytes(path.read_bytes() + frame)
    with pytest.raises(InvalidInput, match="no sound journal"):
        check_received(path, NAME)


def test_what_is_taken_comes_once(platform: Served, tmp_path: Path) -> None:
    data = journal_of(tmp_path / NAME, rows_batch(device_rows("d", 0, 30)))
    for _ in range(3):
        assert put(platform, data).json() == {
            "rows": 30,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    until(lambda: not list((tmp_path / "platform/journal/predictions").glob("*.journal")))
    found = [one["event_id"] for one in published(tmp_path / "platform")]
    assert sorted(found) == sorted(f"d-{number}" for number in range(30))
