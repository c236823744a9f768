"""From journals to parts: what cannot go there stands aside, and the rest goes all the same."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_samples import NOON, row
from processes import environment, until

from foundation.errors import InvalidInput, StorageError
from inference_graph.prediction_log import channel
from inference_graph.prediction_log.columns import PREDICTIONS, to_batch
from inference_graph.prediction_log.journal import Journal
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.publish import publish
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.row import SCHEMA
from inference_graph.prediction_log.writer import LogConfig, PredictionLog


def journal(log: Path, name: str, *keys: str, schema: pa.Schema = SCHEMA) -> Path:
    folder = log / "journal" / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    made = Journal(folder / f"{name}.journal", schema)
    for key in keys:
        made.append(to_batch(PREDICTIONS, [row(key)]).select(schema.names))
    made.close()
    return made.path


def published(log: Path) -> Counter[str]:
    return Counter(
        key
        for part in log.glob("predictions/date=*/hour=*/part-*.parquet")
        for key in pq.ParquetFile(part).read(["event_id"])[0].to_pylist()
    )


def without_time(log: Path, name: str) -> Path:
    """A journal that can be read, and can be no part."""
    schema = pa.schema([SCHEMA.field("event_id")])
    return journal(log, name, "odd", schema=schema)


class TestSetAside:
    def test_one_that_can_be_no_part_holds_up_no_other(self, tmp_path: Path) -> None:
        odd = without_time(tmp_path, "a")
        journal(tmp_path, "b", "e0", "e1")
        reported: list[StorageError] = []
        with PredictionLog(LogConfig(str(tmp_path)), reported.append) as log:
            until(lambda: published(tmp_path))
            until(lambda: log.status.set_aside == 1)
        assert published(tmp_path) == Counter(["e0", "e1"])
        assert not odd.exists() and odd.with_suffix(".refused").exists()
        assert "time" in odd.with_suffix(".reason").read_text()
        assert "a.journal cannot become parts" in str(reported[0])

    def test_one_that_cannot_be_opened_holds_up_no_other(self, tmp_path: Path) -> None:
        (tmp_path / "journal" / "predictions" / "a.journal").mkdir(parents=True)
        journal(tmp_path, "b", "e0")
        with PredictionLog(LogConfig(str(tmp_path))) as log:
            until(lambda: published(tmp_path))
            assert log.status.failing == {"publish"}

    def test_one_the_process_dies_of_ends_no_more_than_three_starts(self, tmp_path: Path) -> None:
        """As for lack of memory: what a killed publication leaves is its count."""
        deadly, other = journal(tmp_path, "a", "e0"), journal(tmp_path, "b", "e1")
        program = (
            "import os, sys, time\n"
            "from inference_graph.prediction_log import publish\n"
            "from inference_graph.prediction_log.writer import LogConfig, PredictionLog\n"
            "read = publish.read_journal\n"
            "def reads(path):\n"
            "    if path.name == 'a.journal': os._exit(137)\n"
            "    return read(path)\n"
            "publish.read_journal = reads\n"
            "PredictionLog(LogConfig(sys.argv[1])).close()\n"
        )
        command = [sys.executable, "-c", program, str(tmp_path)]
        ends = [
            subprocess.run(command, env=environment(), timeout=120).returncode for _ in range(4)
        ]
        assert ends == [137, 137, 137, 0]
        assert deadly.with_suffix(".refused").exists() and not other.exists()
        assert "ended 3 times" in deadly.with_suffix(".reason").read_text()
        assert published(tmp_path) == Counter(["e1"])
        assert sorted(one.suffix for one in deadly.parent.iterdir()) == [".reason", ".refused"]


class TestHours:
    def test_thousands_of_them_open_few_files(self, tmp_path: Path) -> None:
        """And each row is in its hour once, in whatever order the hours came."""
        path = tmp_path / "journal" / "predictions" / "a.journal"
        path.parent.mkdir(parents=True)
        made, keys = Journal(path, SCHEMA), []
        for start in range(0, 300, 60):
            rows = [
                row(f"e{number}", time=NOON + timedelta(hours=number * 7 % 100))
                for number in range(start, start + 60)
            ]
            made.append(to_batch(PREDICTIONS, rows))
            keys += [one.event_id for one in rows]
        made.close()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = len(os.listdir("/proc/self/fd")) + 40
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, before[1]))
        try:
            assert publish(open_place(str(tmp_path)), "predictions", path).rows == 300
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert published(tmp_path) == Counter(keys)
        assert len(list(tmp_path.glob("predictions/date=*/hour=*"))) == 100
        times = read_log(str(tmp_path), since=NOON, until=NOON + timedelta(hours=1))["event_id"]
        assert sorted(times.to_pylist()) == ["e0", "e100", "e200"]

    def test_an_hour_that_comes_again_gets_another_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("inference_graph.prediction_log.publish._OPEN_PARTS", 2)
        monkeypatch.setattr("inference_graph.prediction_log.publish._GROUP_BYTES", 1)
        path = tmp_path / "journal" / "predictions" / "a.journal"
        path.parent.mkdir(parents=True)
        made = Journal(path, SCHEMA)
        for number, hour in enumerate((0, 1, 2, 0, 1, 2)):
            made.append(
                to_batch(PREDICTIONS, [row(f"e{number}", time=NOON + timedelta(hours=hour))])
            )
        made.close()
        data = path.read_bytes()
        for _ in range(2):  # a recovery that was cut short replaces the same files
            path.write_bytes(data)
            publish(open_place(str(tmp_path)), "predictions", path)
            assert published(tmp_path) == Counter(f"e{number}" for number in range(6))


class TestAmendments:
    def test_come_into_the_part_though_the_journal_was_rolled(self, tmp_path: Path) -> None:
        config = LogConfig(str(tmp_path), flush_seconds=0.02, roll_seconds=1)
        with PredictionLog(config) as log:
            log.append(row("e0"), amendments=2)
            assert log.flush()
            log.append(row("e1"))
            until(lambda: log._predictions._rolled)  # it ended, and waits
            assert published(tmp_path) == Counter()
            log.amend("e0", {"blur": 2.5})
            log.amend("e0", {})
            until(lambda: published(tmp_path)["e0"])
        rows = read_log(str(tmp_path), columns=["event_id", "blur"]).to_pylist()
        assert rows == [{"event_id": "e0", "blur": 2.5}, {"event_id": "e1", "blur": None}]
        assert set(published(tmp_path).values()) == {1}

    def test_that_never_come_hold_up_nothing_for_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(channel, "_AWAITED", 0.1)
        with PredictionLog(LogConfig(str(tmp_path), flush_seconds=0.02, roll_seconds=1)) as log:
            log.append(row("e0"), amendments=1)
            until(lambda: published(tmp_path))
        assert published(tmp_path) == Counter(["e0"])

    def test_of_a_row_that_still_waits_are_written_with_it(self, tmp_path: Path) -> None:
        log = PredictionLog(LogConfig(str(tmp_path), flush_seconds=0.02, observation_share=0.0))
        with log._turns:  # the writer has to wait
            log.append(row("e0", observation=[1.0]), amendments=1)
            log.amend("e0", {"image": b"JPEG", "observation": [1.0]})
            log.amend("nobody", {"blur": 1.0})
        assert log.flush()
        (found,) = read_log(str(tmp_path)).to_pylist()
        assert (found["image"], found["image_kept"], found["observation"]) == (b"JPEG", True, [1.0])
        log.close()
        assert read_log(str(tmp_path)).to_pylist() == [found]

    @pytest.mark.parametrize(
        "fields", [{"rung": "nano"}, {"shadow_boxes": [[1, 2, 3, 4]], "shadow_scores": []}]
    )
    def test_that_make_no_row_are_refused(self, tmp_path: Path, fields: dict[str, Any]) -> None:
        with PredictionLog(LogConfig(str(tmp_path))) as log, pytest.raises(InvalidInput):
            log.amend("e0", fields)


def test_what_killed_processes_left_is_removed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log = tmp_path / "log"
    left = [
        log / "journal" / "predictions" / "a-1.begun",
        log / "journal" / "incoming" / "0123.partial",
        tmp_path / "gearshift-parts-dead" / "1-0.parquet",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for path in (*left, left[2].parent):
        os.utime(path, (time.time() - 3600,) * 2)
    young = log / "journal" / "incoming" / "4567.partial"
    young.write_bytes(b"x")  # it may be another gateway's that has no lock yet
    journal(log, "a", "e0")
    PredictionLog(LogConfig(str(log))).close()
    assert not any(path.exists() for path in left) and young.exists()
    assert published(log) == Counter(["e0"])
