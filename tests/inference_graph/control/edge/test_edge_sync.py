"""Whatever dies on the way, each row of a device is at the platform once in the end."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from edge_samples import device_rows, log_on_device, published
from gateway_samples import Served, gateway_settings, served, troubled_rungs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import closed_port, environment, until
from relay import Relay, http_message
from tiny_models import MakeDetector

from foundation.errors import (
    AccessError,
    ConfigurationError,
    Forbidden,
    GearshiftError,
    InvalidInput,
    StorageError,
    Unavailable,
)
from inference_graph.control.edge.sync import (
    GatewayTarget,
    PlaceTarget,
    SyncWorker,
    open_target,
    sync_log,
    waiting_bytes,
)
from inference_graph.gateway.access import add_token
from inference_graph.prediction_log.columns import PREDICTIONS, to_batch
from inference_graph.prediction_log.intake import incoming, take_journal
from inference_graph.prediction_log.journal import Journal
from inference_graph.prediction_log.journal_format import HEAD_BYTES, Kind, Scan, pack
from inference_graph.prediction_log.place import Place
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.session_files import read_sessions
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

ENDS = ("damaged", "reason")
NAME = "20260504T123000-0123abcd-000001.journal"


class Killed(BaseException):
    """The process dies here: nothing after this point runs."""


@pytest.fixture
def platform(make_detector: MakeDetector, tmp_path: Path) -> Iterator[Served]:
    settings_ = gateway_settings(log_url=str(tmp_path / "platform"), image_share=0.0)
    with served(settings_, troubled_rungs(make_detector)) as gateway:
        yield gateway


def arrived(platform: Path, device: str, wanted: int) -> Counter[str]:
    """How often each row of a device is in the platform's parts, once nothing is on the way."""
    journals = platform / "journal" / "predictions"
    until(lambda: not list(journals.glob(f"*{device}*")) and not list(journals.glob("edge.*")))
    ids = Counter(row["event_id"] for row in published(platform) if row["session"] == device)
    assert sum(ids.values()) >= wanted
    return ids


def once(device: str, count: int) -> Counter[str]:
    return Counter(f"{device}-{number}" for number in range(count))


class Proxy(Relay):
    """Between a device and a gateway; it fails the next requests as configured."""

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def pass_on(self, client: socket.socket) -> None:
        with client:
            while True:
                request = http_message(client)
                if not request:
                    return
                fault = self.faults.pop(0) if self.faults else ""
                if fault == "refused":  # the connection breaks before anything arrives
                    return
                if fault == "error":
                    client.sendall(b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n")
                    continue
                with socket.create_connection(self.server) as gateway:
                    if fault == "cut":  # half of the body arrives
                        head, _, body = request.partition(b"\r\n\r\n")
                        gateway.sendall(head + b"\r\n\r\n" + body[: len(body) // 2])
                        return
                    gateway.sendall(request)
                    answer = http_message(gateway)
                    if fault == "twice":  # a retry on the way that neither side knows of
                        with socket.create_connection(self.server) as again:
                            again.sendall(request)
                            http_message(again)
                    if fault == "lost":  # stored, but the device never gets the answer
                        return
                    if fault == "held":
                        self.held.set()
                        client.recv(1)  # until the device is gone
                        return
                client.sendall(answer)


class TestThroughAGateway:
    def test_a_log_is_brought_and_removed(self, platform: Served, tmp_path: Path) -> None:
        log = tmp_path / "device"
        log_on_device(log, device_rows("d", 0, 10), session="d")
        log_on_device(log, device_rows("d", 10, 5))
        summary = sync_log(log, open_target(platform.url, log))
        assert (summary.files, summary.rows, summary.sessions, summary.damaged) == (2, 15, 1, 0)
        assert summary.left_bytes == waiting_bytes(log) == 0
        assert arrived(tmp_path / "platform", "d", 15) == once("d", 15)
        until(lambda: len(read_sessions(str(tmp_path / "platform"))) == 1)
        ((name, session),) = read_sessions(str(tmp_path / "platform")).items()
        assert (session.session, session.client) == ("d", "local")  # not what the device sends
        assert name.startswith("edge.local.d.")
        again = sync_log(log, open_target(platform.url, log))
        assert (again.files, again.rows, again.sessions) == (0, 0, 0)

    def test_what_is_being_written_stays_until_it_is_closed(
        self, platform: Served, tmp_path: Path
    ) -> None:
        log = tmp_path / "device"
        with PredictionLog(LogConfig(str(log), publish=False)) as writing:
            for row in device_rows("d", 0, 3):
                writing.append(row)
            assert writing.flush()
            summary = sync_log(log, open_target(platform.url, log))
            assert (summary.files, summary.left_bytes > 0) == (0, True)
        assert sync_log(log, open_target(platform.url, log)).rows == 3
        assert arrived(tmp_path / "platform", "d", 3) == once("d", 3)

    @settings(
        max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_nothing_is_lost_and_nothing_doubled(
        self, platform: Served, tmp_path: Path, data: st.DataObject
    ) -> None:
        device = f"d{os.urandom(6).hex()}"
        log, count = tmp_path / device, 0
        log.mkdir()
        proxy = Proxy(platform.address)
        fault = st.sampled_from(("", "refused", "error", "cut", "lost", "twice"))
        for _ in range(data.draw(st.integers(1, 4))):
            rows = data.draw(st.integers(0, 7))
            log_on_device(log, device_rows(device, count, rows), session=device if rows else "")
            count += rows
            proxy.faults = data.draw(st.lists(fault, max_size=4))
            death = data.draw(st.sampled_from(("", "before", "after")))
            target = Dying(proxy.url, log / "journal", death, data.draw(st.integers(0, 2)))
            with suppress(Killed, GearshiftError):
                sync_log(log, target)
            target.close()
        proxy.faults = []
        sync_log(log, open_target(proxy.url, log))
        proxy.close()
        assert arrived(tmp_path / "platform", device, count) == once(device, count)
        assert waiting_bytes(log) == 0

    def test_a_sync_that_is_killed_is_begun_again(self, platform: Served, tmp_path: Path) -> None:
        """SIGKILL while the gateway has stored the file and the device does not know."""
        log, proxy = tmp_path / "device", Proxy(platform.address)
        log_on_device(log, device_rows("d", 0, 4))
        proxy.faults = ["held"]
        code = (
            "import sys; from pathlib import Path\n"
            "from inference_graph.control.edge.sync import open_target, sync_log\n"
            "log = Path(sys.argv[2]); sync_log(log, open_target(sys.argv[1], log))\n"
        )
        command = [sys.executable, "-c", code, proxy.url, str(log)]
        process = subprocess.Popen(command, env=environment())
        assert proxy.held.wait(120)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        assert waiting_bytes(log) > 0
        assert sync_log(log, open_target(proxy.url, log)).rows == 4
        assert arrived(tmp_path / "platform", "d", 4) == once("d", 4)
        proxy.close()

    def test_a_platform_that_died_has_what_it_reported(
        self, make_detector: MakeDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The gateway stores, answers, and ends before it could publish; the next one does."""
        log, place = tmp_path / "device", tmp_path / "platform"
        log_on_device(log, device_rows("d", 0, 5))
        settings_ = gateway_settings(log_url=str(place))
        rungs = troubled_rungs(make_detector)
        with monkeypatch.context() as patched, served(settings_, rungs) as gateway:
            patched.setattr(gateway.runtime.log._publisher, "_round", lambda: None)
            assert sync_log(log, open_target(gateway.url, log)).rows == 5
            assert published(place) == []
            assert read_log(str(place)).num_rows == 5  # readers see them before that
        with PredictionLog(LogConfig(str(place))):
            pass
        assert arrived(place, "d", 5) == once("d", 5)

    def test_only_those_with_the_role_bring_a_log(
        self, make_detector: MakeDetector, tmp_path: Path
    ) -> None:
        log, tokens = tmp_path / "device", tmp_path / "tokens.jsonl"
        sender = add_token(tokens, "robot-7", ["sync"])
        streamer = add_token(tokens, "robot-8", ["stream"])
        log_on_device(log, device_rows("d", 0, 2))
        settings_ = gateway_settings(tokens=tokens, log_url=str(tmp_path / "platform"))
        with served(settings_, troubled_rungs(make_detector)) as gateway:
            with pytest.raises(AccessError):
                sync_log(log, open_target(gateway.url, log))
            with pytest.raises(Forbidden):
                sync_log(log, open_target(gateway.url, log, streamer))
            assert waiting_bytes(log) > 0
            assert sync_log(log, open_target(gateway.url, log, sender)).rows == 2
            parts = tmp_path / "platform" / "predictions"
            (path,) = until(lambda: list(parts.glob("*/*/part-*.parquet")))
            assert path.name.startswith("part-edge.robot-7.")
        with served(gateway_settings(tokens=tokens), troubled_rungs(make_detector)) as gateway:
            log_on_device(log, device_rows("d", 2, 2))
            with pytest.raises(Unavailable, match="keeps no log"):
                sync_log(log, open_target(gateway.url, log, sender))

    def test_what_is_no_journal_is_refused_and_kept(self, platform: Served, tmp_path: Path) -> None:
        log_on_device(tmp_path / "device", device_rows("d", 0, 3))
        (path,) = (tmp_path / "device").rglob("*.journal")
        sound = path.read_bytes()

        def put(data: bytes, name: str = NAME, digest: str | None = None) -> httpx.Response:
            params = {"sha256": digest or hashlib.sha256(data).hexdigest()}
            return platform.http.put(f"/v1/log/predictions/{name}", content=data, params=params)

        flipped = bytearray(sound)
        flipped[-9] ^= 1
        other = tmp_path / "other.journal"
        Journal(other, pa.schema([("event_id", pa.string()), ("time", pa.int64())])).close()
        odd = device_rows("d", 0, 1)[0]
        late = replace(odd, time=datetime(9000, 1, 1, tzinfo=UTC))
        log_on_device(tmp_path / "late", [late])
        (ahead,) = (tmp_path / "late").rglob("*.journal")
        for data, message in (
            (b"", "nothing to send"),
            (b"x" * 1000, "no sound journal"),
            (b"GEARLOG1" + b"\xff" * 100, "no sound journal"),
            (b"GEARLOG2" + b"\xff" * 100, "no sound journal"),
            (bytes(flipped), "no sound journal"),
            (ahead.read_bytes(), "1970 to 2199"),
        ):
            answer = put(data)
            assert (answer.status_code, message in answer.json()["detail"]) == (400, True), (
                answer.text
            )
        assert put(sound[:-5], digest=hashlib.sha256(sound).hexdigest()).status_code == 400
        for name in ("x.journal", f"..%2F{NAME}", "20260504T123000-0123abcd-000001.parquet"):
            assert put(sound, name).status_code in (404, 422)
        assert put(sound, digest="x").status_code == 422
        assert put(bytes(65 << 20)).status_code == 413
        session = platform.http.put(
            "/v1/log/sessions/a.json",
            content=b"{}",
            params={"sha256": hashlib.sha256(b"{}").hexdigest()},
        )
        assert session.status_code == 400
        digest = hashlib.sha256(sound).hexdigest()
        assert put(sound).json() == {"rows": 3, "sha256": digest}
        assert put(sound).json() == {"rows": 3, "sha256": digest}
        assert arrived(tmp_path / "platform", "d", 3) == once("d", 3)
        assert list((tmp_path / "platform" / "journal" / "incoming").iterdir()) == []

    def test_a_column_declared_without_nulls_is_refused(self, tmp_path: Path) -> None:
        """Publication would fail on its nulls, after the device was told that its rows are safe."""
        log_on_device(tmp_path / "device", device_rows("d", 0, 3))
        (path,) = (tmp_path / "device").rglob("*.journal")
        with path.open("rb") as stream:
            frames = [(one.kind, one.payload, one.rows) for one in Scan(stream)]
        schema = next(payload for kind, payload, _ in frames if kind == Kind.SCHEMA)
        read = pa.ipc.read_schema(pa.py_buffer(bytes(schema)))
        strict = read.set(
            read.get_field_index("image"), read.field("image").with_nullable(False)
        ).serialize()
        forged = b"GEARLOG2" + b"".join(
            pack(kind, strict if kind == Kind.SCHEMA else pa.py_buffer(bytes(payload)), rows, 0)
            for kind, payload, rows in frames
        )
        with PredictionLog(LogConfig(str(tmp_path / "log"))) as log, incoming(log) as received:
            received.write_bytes(forged)
            with pytest.raises(InvalidInput, match=r"other columns than the log \(image\)"):
                take_journal(log, "eve", NAME, received, hashlib.sha256(forged).hexdigest())

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_a_forged_journal_is_sound_or_refused(
        self, tmp_path: Path, data: st.DataObject
    ) -> None:
        """Changed bytes whose checksums were made right again, as a hostile device could send."""
        path = tmp_path / "sound.journal"
        if not path.exists():
            log_on_device(tmp_path / "device", device_rows("d", 0, 3))
            (written,) = (tmp_path / "device").rglob("*.journal")
            path.write_bytes(written.read_bytes())
        with path.open("rb") as stream:
            frames = [(one.kind, bytearray(one.payload), one.rows) for one in Scan(stream)]
        for _ in range(data.draw(st.integers(1, 3))):
            _, payload, _ = frames[data.draw(st.integers(0, len(frames) - 2))]  # the end has none
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans(), "this version"):
            forged = b"GEARLOG2" + b"".join(
                pack(kind, pa.py_buffer(bytes(payload)), rows, 0) for kind, payload, rows in frames
            )
        else:
            forged = b"GEARLOG1" + b"".join(
                struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
                for _, payload, _ in frames[1:-1]
            )
        place = tmp_path / f"p{os.urandom(6).hex()}"
        with PredictionLog(LogConfig(str(place))) as log:
            digest = hashlib.sha256(forged).hexdigest()
            with suppress(InvalidInput), incoming(log) as received:
                received.write_bytes(forged)
                take_journal(log, "eve", NAME, received, digest)
        # What was taken could be published, and can be read.
        assert list((place / "journal" / "predictions").glob("*")) == []
        read_log(str(place))

    def test_no_row_is_taken_that_the_disk_has_no_room_for(
        self, platform: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = tmp_path / "device"
        log_on_device(log, device_rows("d", 0, 2))
        config = platform.runtime.log.config
        monkeypatch.setattr(
            platform.runtime.log, "config", replace(config, journal_limit_bytes=1024)
        )
        with pytest.raises(StorageError, match="send it later"):
            sync_log(log, open_target(platform.url, log))
        assert waiting_bytes(log) > 0
        monkeypatch.undo()
        # What stands aside counts too.
        aside = tmp_path / "platform" / "journal" / "predictions" / "edge.x.damaged"
        aside.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.truncate(config.journal_limit_bytes)
        with pytest.raises(StorageError, match="room for 0 bytes"):
            sync_log(log, open_target(platform.url, log))
        aside.unlink()
        assert sync_log(log, open_target(platform.url, log)).rows == 2

    def test_a_file_that_is_refused_holds_up_no_other(
        self, platform: Served, tmp_path: Path
    ) -> None:
        log = tmp_path / "device"
        log_on_device(log, device_rows("d", 0, 2), session="d")
        odd = log / "journal" / "predictions" / "00000000T000000-00000000-000001.journal"
        schema = pa.schema([("event_id", pa.string()), ("time", pa.int64())])
        journal = Journal(odd, schema)
        journal.append(pa.record_batch([["x"], [1]], schema=schema))
        journal.close()
        (log / "journal" / "sessions" / "broken.json").write_text("{}")
        with pytest.raises(InvalidInput, match=r"other columns than the log \(time\).* stays here"):
            sync_log(log, open_target(platform.url, log))
        assert odd.exists()
        assert arrived(tmp_path / "platform", "d", 2) == once("d", 2)
        odd.unlink()
        with pytest.raises(InvalidInput, match=r"broken\.json.*no session summary"):
            sync_log(log, open_target(platform.url, log))
        until(lambda: len(read_sessions(str(tmp_path / "platform"))) == 1)

    @pytest.mark.parametrize("begun", [b"\xf5\xfeGEAR\r\n\x02\0\0", bytes(500)])
    def test_what_a_killed_run_began_to_write_is_left_out(
        self, platform: Served, tmp_path: Path, begun: bytes
    ) -> None:
        log = tmp_path / "device"
        log_on_device(log, device_rows("d", 0, 3))
        (path,) = log.rglob("*.journal")
        path.write_bytes(path.read_bytes()[:-HEAD_BYTES] + begun)  # without its end
        summary = sync_log(log, open_target(platform.url, log))
        assert (summary.rows, summary.damaged, summary.left_bytes) == (3, 0, 0)
        assert arrived(tmp_path / "platform", "d", 3) == once("d", 3)

    def test_an_older_device_sends_it_as_it_is(self, platform: Served, tmp_path: Path) -> None:
        batch = to_batch(PREDICTIONS, device_rows("d", 0, 3))
        data = b"GEARLOG1" + b"".join(
            struct.pack("<II", len(one), zlib.crc32(one)) + one
            for one in (batch.schema.serialize().to_pybytes(), batch.serialize().to_pybytes())
        )
        for name, sent in (("000001", data), ("000002", data + b"\x10\0\0\0begun")):
            answer = platform.http.put(
                f"/v1/log/predictions/{NAME.replace('000001', name)}",
                content=sent,
                params={"sha256": hashlib.sha256(sent).hexdigest()},
            )
            assert answer.json()["rows"] == 3, answer.text
        journals = tmp_path / "platform" / "journal" / "predictions"
        until(lambda: not list(journals.glob("*.journal")))
        kept = sorted(one.name.removeprefix("edge.local.") for one in journals.iterdir())
        assert kept == [NAME.replace("000001.journal", f"000002.{end}") for end in ENDS]
        assert read_log(str(tmp_path / "platform")).num_rows == 3

    def test_what_stands_around_damage_is_brought(self, platform: Served, tmp_path: Path) -> None:
        log, starts = tmp_path / "device", []
        with PredictionLog(LogConfig(str(log), publish=False)) as writing:
            for row in device_rows("d", 0, 3):
                starts.append(writing.status.backlog_bytes)
                writing.append(row)
                assert writing.flush()  # a frame of the journal each
        (path,) = log.rglob("*.journal")
        data = bytearray(path.read_bytes())
        data[starts[1] + 100] ^= 1
        path.write_bytes(data)
        summary = sync_log(log, open_target(platform.url, log))
        assert (summary.rows, summary.damaged, summary.lost_rows) == (2, 1, 1)
        reported = summary.set_aside(log)
        assert reported is not None and "1 files of the log are damaged (1 answers are" in reported
        there = arrived(tmp_path / "platform", "d", 2)
        assert there == Counter(["d-0", "d-2"])
        kept = {one.suffix: one for one in path.parent.iterdir()}
        assert set(kept) == {".damaged", ".reason"}
        assert kept[".damaged"].read_bytes() == data
        assert "1 rows are lost" in kept[".reason"].read_text()


class Dying(GatewayTarget):
    """A device that is killed before or after it removes the n-th file that was stored."""

    def __init__(self, url: str, journal: Path, death: str, at: int) -> None:
        super().__init__(url, journal)
        self.death, self.left = death, at

    def _remove(self, path: Path) -> None:
        dies, self.left = self.left == 0, self.left - 1
        if dies and self.death == "before":
            raise Killed
        super()._remove(path)
        if dies and self.death == "after":
            raise Killed


class TestToAPlace:
    def test_a_folder(self, tmp_path: Path) -> None:
        log, place = tmp_path / "device", tmp_path / "platform"
        log_on_device(log, device_rows("d", 0, 6), session="d")
        summary = sync_log(log, open_target(str(place), log))
        assert (summary.files, summary.rows, summary.sessions, summary.left_bytes) == (1, 6, 1, 0)
        assert arrived(place, "d", 6) == once("d", 6)
        assert [one.client for one in read_sessions(str(place)).values()] == ["says"]

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_nothing_is_lost_and_nothing_doubled(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
    ) -> None:
        """Killed before or after any of the parts of a journal, which fall into several hours."""
        device = f"d{os.urandom(6).hex()}"
        log, place, count = tmp_path / device, tmp_path / f"to-{device}", 0
        log.mkdir()
        put = Place.put
        for _ in range(data.draw(st.integers(1, 4))):
            rows = data.draw(st.integers(0, 9))
            log_on_device(log, device_rows(device, count, rows))
            count += rows
            at = data.draw(st.integers(0, 5))
            after = data.draw(st.booleans())
            puts = 0

            def dies(self: Place, path: str, source: Path) -> None:
                nonlocal puts
                puts += 1
                if puts == at and not after:  # noqa: B023
                    raise data.draw(st.sampled_from((Killed, StorageError)))("no network")
                put(self, path, source)
                if puts == at and after:  # noqa: B023
                    raise Killed

            with monkeypatch.context() as patched:
                patched.setattr(Place, "put", dies)
                with suppress(Killed, StorageError):
                    sync_log(log, open_target(str(place), log))
        sync_log(log, open_target(str(place), log))
        assert arrived(place, device, count) == once(device, count)

    def test_two_at_once_share_the_work(self, tmp_path: Path) -> None:
        log, place = tmp_path / "device", tmp_path / "platform"
        for number in range(6):
            log_on_device(log, device_rows("d", 3 * number, 3))
        rows: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: rows.append(sync_log(log, open_target(str(place), log)).rows)
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(rows) == 18
        assert arrived(place, "d", 18) == once("d", 18)


def test_a_worker_syncs_once_a_network_returns(tmp_path: Path, make_detector: MakeDetector) -> None:
    log, place, reported = tmp_path / "device", tmp_path / "platform", []
    log_on_device(log, device_rows("d", 0, 2))
    port = closed_port()
    target = GatewayTarget(f"http://127.0.0.1:{port}", log / "journal")
    with SyncWorker(log, target, 3600, reported.append) as sync_worker:
        until(lambda: reported)
        assert "the log stays on the device for now: no gateway answers" in reported[0]
        assert sync_worker.once() is None
        settings_ = gateway_settings(log_url=str(place), port=port)
        with served(settings_, troubled_rungs(make_detector)):
            until(lambda: not waiting_bytes(log))
            until(lambda: reported[1:])
            assert reported[1:] == [f"the log is synced to {target.name} again"]
            assert arrived(place, "d", 2) == once("d", 2)


def test_addresses_that_are_none(tmp_path: Path) -> None:
    assert isinstance(open_target("https://x.example", tmp_path), GatewayTarget)
    assert isinstance(open_target("s3://bucket/log?region=eu-west-1", tmp_path), PlaceTarget)
    with pytest.raises(ConfigurationError):
        open_target("ftp://x", tmp_path)
    with pytest.raises(StorageError, match="there is no log"):
        sync_log(tmp_path / "none", open_target(str(tmp_path / "to"), tmp_path / "none"))
    log_on_device(tmp_path / "device", device_rows("d", 0, 1))
    nowhere = GatewayTarget(f"http://127.0.0.1:{closed_port()}", tmp_path / "device" / "journal")
    with pytest.raises(Unavailable, match="the log stays here"):
        sync_log(tmp_path / "device", nowhere)
