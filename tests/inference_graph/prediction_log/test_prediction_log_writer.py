from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_samples import NOON, row
from processes import environment, until

from foundation.errors import ConfigurationError, InvalidInput, StorageError
from inference_graph.prediction_log.columns import PREDICTIONS, to_batch
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.journal import (
    Journal,
    JournalDamaged,
    lock_abandoned,
    read_journal,
)
from inference_graph.prediction_log.reader import read_feedback, read_log
from inference_graph.prediction_log.row import SCHEMA, SessionSummary
from inference_graph.prediction_log.session_files import read_sessions
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

FAST = 0.02


def opened(folder: Path, **options: Any) -> PredictionLog:
    return PredictionLog(LogConfig(str(folder), **({"flush_seconds": FAST} | options)))


def ids(folder: Path, **limits: datetime) -> list[str]:
    found: list[str] = read_log(str(folder), columns=["event_id"], **limits)["event_id"].to_pylist()
    return found


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "predictions").rglob("*.parquet"))


def part_rows(folder: Path) -> list[int]:
    return [pq.read_metadata(path).num_rows for path in parts(folder)]


class TestJournal:
    def test_what_is_appended_is_read(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "a.journal", SCHEMA)
        batches = [to_batch(PREDICTIONS, [row(f"e{index}")]) for index in range(3)]
        for batch in batches:
            journal.append(batch)
        assert journal.size == journal.path.stat().st_size
        assert list(read_journal(journal.path)) == batches  # while it is being written
        keys = read_journal(journal.path, ["event_id"])
        assert [batch.column(0)[0].as_py() for batch in keys] == ["e0", "e1", "e2"]

    def test_every_cut_leaves_whole_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "a.journal"
        journal = Journal(path, SCHEMA)
        starts = [journal.size]
        for index in range(2):
            journal.append(to_batch(PREDICTIONS, [row(f"e{index}")]))
            starts.append(journal.size)
        journal.close()
        data = path.read_bytes()
        for cut in [*range(0, 20), starts[0] - 1, *starts, starts[1] + 5, starts[2] - 1]:
            path.write_bytes(data[:cut])
            whole = sum(end <= cut for end in starts[1:])
            assert len(list(read_journal(path))) == whole, cut
        path.write_bytes(data[: starts[1]] + bytes(500))  # what a power cut may leave
        assert len(list(read_journal(path))) == 1

    def test_a_changed_byte_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.journal"
        journal = Journal(path, SCHEMA)
        journal.append(to_batch(PREDICTIONS, [row("e0")]))
        first = journal.size
        journal.append(to_batch(PREDICTIONS, [row("e1")]))
        journal.close()
        data = bytearray(path.read_bytes())
        data[first + 100] ^= 1
        path.write_bytes(data)
        found = []
        with pytest.raises(JournalDamaged, match="a.journal is damaged"):
            for batch in read_journal(path):
                found.append(batch)
        assert len(found) == 1

    def test_only_a_journal_without_a_writer_is_locked(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "a.journal", SCHEMA)
        assert lock_abandoned(journal.path) is None
        journal.close()
        abandoned = lock_abandoned(journal.path)
        assert abandoned is not None
        with abandoned:
            assert lock_abandoned(journal.path) is None
        journal.path.unlink()
        assert lock_abandoned(journal.path) is None

    def test_a_journal_is_never_seen_without_its_lock(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that a publisher finds unlocked is empty to it, and is removed with its rows."""
        seen: list[Path] = []
        lock = fcntl.flock

        def flock(stream: Any, how: int) -> None:
            if how == fcntl.LOCK_EX:
                seen.extend(tmp_path.glob("*.journal"))
            lock(stream, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        journal = Journal(tmp_path / "a.journal", SCHEMA)
        assert seen == []
        assert [path.name for path in tmp_path.iterdir()] == ["a.journal"]
        with pytest.raises(FileExistsError):
            Journal(tmp_path / "a.journal", SCHEMA)
        assert [path.name for path in tmp_path.iterdir()] == ["a.journal"]
        journal.close()

    def test_a_closed_journal_is_free_though_another_process_got_its_file(
        self, tmp_path: Path
    ) -> None:
        """As every process does that is forked meanwhile, until it has become another program."""
        journal = Journal(tmp_path / "a.journal", SCHEMA)
        heir = subprocess.Popen(["sleep", "60"], pass_fds=[journal._stream.fileno()])
        try:
            journal.close()
            abandoned = lock_abandoned(journal.path)
            assert abandoned is not None
            abandoned.__exit__(None, None, None)
        finally:
            heir.kill()
            heir.wait()


def test_rows_are_read_while_they_are_written_and_after(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    for index in range(10):
        log.append(row(f"e{index}", time=NOON + timedelta(minutes=15 * index), frame_id=index))
    assert log.flush()
    assert parts(tmp_path / "log") == []  # all in the journal
    assert ids(tmp_path / "log") == [f"e{index}" for index in range(10)]
    status = log.close()
    assert (status.accepted, status.stored, status.queued, status.dropped) == (10, 10, 0, 0)
    assert status.failure is None and status.backlog_bytes == 0
    files = parts(tmp_path / "log")
    hours = [str(path.parent.relative_to(tmp_path / "log")) for path in files]
    assert hours == [f"predictions/date=2026-11-21/hour={hour}" for hour in (12, 13, 14)]
    assert part_rows(tmp_path / "log") == [4, 4, 2]
    assert all(path.name.startswith("part-") and path.suffix == ".parquet" for path in files)
    assert ids(tmp_path / "log") == [f"e{index}" for index in range(10)]
    table = read_log(str(tmp_path / "log"))
    assert table.schema == SCHEMA
    assert table["frame_id"].to_pylist() == list(range(10))


def test_a_period_is_read(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for hour in range(48):
        log.append(row(f"e{hour:02}", time=NOON + timedelta(hours=hour)))
    log.close()
    since, until = NOON + timedelta(hours=11, minutes=30), NOON + timedelta(hours=14)
    assert ids(tmp_path, since=since, until=until) == ["e12", "e13"]
    assert ids(tmp_path, since=NOON + timedelta(hours=46)) == ["e46", "e47"]
    assert ids(tmp_path, until=NOON) == []
    # Hours outside are not even opened.
    for path in parts(tmp_path):
        if "hour=12" not in str(path):
            path.write_bytes(b"broken")
    assert ids(tmp_path, since=NOON, until=NOON + timedelta(minutes=1)) == ["e00"]
    with pytest.raises(StorageError, match="hour=13.*cannot be read"):
        ids(tmp_path)


def test_bad_questions(tmp_path: Path) -> None:
    assert read_log(str(tmp_path / "nothing")).num_rows == 0
    with pytest.raises(InvalidInput, match="no column colour"):
        read_log(str(tmp_path), columns=["colour"])
    with pytest.raises(InvalidInput, match="no time zone"):
        read_log(str(tmp_path), since=datetime(2026, 1, 1))
    with pytest.raises(ConfigurationError, match="ftp://"):
        read_log("ftp://user:secret@host/log")


def test_an_older_part_lacks_a_column(tmp_path: Path) -> None:
    old = pa.Table.from_batches([to_batch(PREDICTIONS, [row("e0")])]).drop_columns(["noise"])
    folder = tmp_path / "predictions" / "date=2026-11-21" / "hour=12"
    folder.mkdir(parents=True)
    pq.write_table(old, folder / "part-old-1.parquet")
    with opened(tmp_path) as log:
        log.append(row("e1", noise=0.5))
    assert read_log(str(tmp_path), columns=["event_id", "noise"]).to_pylist() == [
        {"event_id": "e0", "noise": None},
        {"event_id": "e1", "noise": 0.5},
    ]


def test_a_row_that_comes_again_is_logged_once(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with opened(tmp_path) as log:
        for _ in range(2):
            log.append(row("e0", time=now))
        log.flush()
        log.append(row("e0", time=now))
        log.flush()
        assert (log.status.stored, log.status.duplicates) == (1, 2)
    with opened(tmp_path) as log:  # another process after a restart
        log.append(row("e0", time=now))
        log.append(row("e1", time=now))
        log.flush()
        assert (log.status.stored, log.status.duplicates) == (1, 1)
    rows = [
        pq.read_table(path, partitioning=None).num_rows
        for path in parts(tmp_path)
        if path.is_file()
    ]
    assert sum(rows) == 2
    assert ids(tmp_path) == ["e0", "e1"]


def test_two_writers_at_one_place(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        one.append(row("e0", rung="nano"))
        one.flush()
        other.append(row("e0", rung="nano"))
        other.append(row("e1"))
        other.flush()
        assert ids(tmp_path) == ["e0", "e1"]
    assert ids(tmp_path) == ["e0", "e1"]  # both stored e0, readers see it once


def test_many_threads(tmp_path: Path) -> None:
    log = opened(tmp_path, queue_rows=100_000)

    def work(number: int) -> None:
        for index in range(500):
            log.append(row(f"t{number}-{index}", frame_id=index))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = log.close()
    assert (status.accepted, status.stored, status.dropped) == (4000, 4000, 0)
    assert len(set(ids(tmp_path))) == 4000


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    reported: list[StorageError] = []
    log = PredictionLog(
        LogConfig(str(tmp_path), flush_seconds=60, queue_rows=10), on_failure=reported.append
    )
    with log._turns:  # the writer has to wait
        for index in range(25):
            log.append(row(f"e{index}"))
        status = log.status
    assert (status.accepted, status.queued, status.dropped) == (10, 10, 15)
    status = log.close()
    assert (status.stored, status.queued, status.dropped) == (10, 0, 15)
    assert "15 rows" in str(reported[0]) and "more than 10 waited" in str(reported[0])
    log.append(row("late"))
    assert log.status.dropped == 16
    assert ids(tmp_path) == sorted(f"e{index}" for index in range(10))


def test_an_unusable_row_does_not_stop_the_others(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(row("e0"))
        log.append(row("e1", width=2**40))  # no int32
        log.append(row("e2", tags={"a": 5}))
        log.append(row("e3"))
        assert log.flush()
        assert (log.status.stored, log.status.refused) == (2, 2)
    assert ids(tmp_path) == ["e0", "e3"]


def test_feedback_and_sessions_stand_beside(tmp_path: Path) -> None:
    given = Feedback(event_id="e0", time=NOON, client="cam", kind="confirm")
    start = datetime(2026, 11, 21, 11, 59, 30, 250_000, UTC)
    summary = SessionSummary(
        session="cam-1",
        client="cam",
        started=start,
        ended=NOON,
        frames=300,
        dropped=2,
        shares={"nano": 0.75, "large": 0.25},
        latency_mean_ms=20.5,
        savings=0.6,
        tags={"condition": "night"},
    )
    later = SessionSummary(
        session="cam-1", client="cam", started=NOON, ended=NOON, frames=1, dropped=0, shares={}
    )
    with opened(tmp_path) as log:
        for _ in range(2):
            log.append_feedback(given)
        log.record_session(later)
        log.record_session(summary)
        assert log.flush()
    assert read_feedback(str(tmp_path), columns=["event_id", "kind"]).to_pylist() == [
        {"event_id": "e0", "kind": "confirm"}
    ]
    assert ids(tmp_path) == []
    assert read_sessions(str(tmp_path)) == {
        "cam-1.20261121T115930250000.json": summary,
        "cam-1.20261121T120000000000.json": later,
    }
    assert len(list((tmp_path / "sessions").iterdir())) == 2
    (tmp_path / "sessions" / "x.json").write_text('{"session": "x"}')
    with pytest.raises(InvalidInput, match="sessions/x.json"):
        read_sessions(str(tmp_path))


def test_observations_are_kept_for_a_stable_share(tmp_path: Path) -> None:
    with opened(tmp_path, observation_share=0.25) as log:
        kept = {f"e{index}" for index in range(400) if log.keeps_observation(f"e{index}")}
        for index in range(400):
            log.append(row(f"e{index}", observation=[1.0, 2.0]))
    table = read_log(str(tmp_path), columns=["event_id", "observation"])
    stored = {one["event_id"] for one in table.to_pylist() if one["observation"] is not None}
    assert stored == kept
    assert 60 < len(kept) < 140
    with opened(tmp_path / "another", observation_share=0.25) as log:
        assert {f"e{index}" for index in range(400) if log.keeps_observation(f"e{index}")} == kept


def test_a_row_with_an_image_keeps_its_observation_too(tmp_path: Path) -> None:
    with opened(tmp_path, observation_share=0.0) as log:
        log.append(row("e0", observation=[1.0]))
        log.append(row("e1", observation=[2.0], image=b"JPEG"))
    table = read_log(str(tmp_path), columns=["observation", "image"])
    assert table.to_pylist() == [
        {"observation": None, "image": None},
        {"observation": [2.0], "image": b"JPEG"},
    ]


def test_a_log_from_before_there_were_images_is_read(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.append(row("e0", tags={"condition": "day"}))
    (part,) = parts(tmp_path)
    table = pq.ParquetFile(part).read().drop_columns(["condition", "image_kept", "image"])
    pq.write_table(table, part)
    (record,) = read_log(str(tmp_path)).to_pylist()
    assert record["event_id"] == "e0" and record["tags"] == [("condition", "day")]
    assert record["image"] is None and record["image_kept"] is None


def test_a_journal_that_is_long_enough_becomes_a_part(tmp_path: Path) -> None:
    log = opened(tmp_path, roll_bytes=10_000)
    for index in range(300):
        log.append(row(f"e{index}", observation=[0.5] * 10))
        if index % 50 == 0:
            log.flush()
    log.flush()
    until(lambda: bool(parts(tmp_path)))
    assert len(ids(tmp_path)) == 300
    log.close()
    assert len(ids(tmp_path)) == 300


def test_the_clock_rolls_too(tmp_path: Path) -> None:
    with opened(tmp_path, roll_seconds=1) as log:
        log.append(row("e0"))
        until(lambda: parts(tmp_path) and log.status.backlog_bytes == 0)
        assert part_rows(tmp_path) == [1]


CHILD = """
import os, sys
from inference_graph.prediction_log.writer import LogConfig, PredictionLog
from log_samples import row
log = PredictionLog(LogConfig(sys.argv[1], flush_seconds=0.2, roll_bytes=int(sys.argv[2])))
for index in range(10**9):
    log.append(row(f"e{index:06}"))
    if index % 100 == 99:
        log.flush()
        print(index, flush=True)
"""


def child(*arguments: str, program: str = CHILD) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("roll_bytes", [10**8, 30_000])
def test_a_killed_process_loses_nothing_it_had_flushed(tmp_path: Path, roll_bytes: int) -> None:
    process = child(str(tmp_path), str(roll_bytes))
    assert process.stdout is not None
    flushed = -1
    for line in process.stdout:
        flushed = int(line)
        if flushed >= 1500:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    lines = process.stdout.read().split()
    flushed = int(lines[-1]) if lines else flushed

    found = ids(tmp_path)  # before anybody has recovered anything
    assert found == [f"e{index:06}" for index in range(len(found))]  # in order, nothing twice
    assert len(found) > flushed
    with opened(tmp_path) as log:
        log.append(row("after"))
    assert ids(tmp_path) == [*sorted([*found, "after"], key=lambda one: (one != "after", one))]
    assert not list((tmp_path / "journal" / "predictions").iterdir())
    assert sum(part_rows(tmp_path)) == len(found) + 1


def test_what_a_killed_publication_left_is_removed(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(row("e0"))
    log.flush()
    journal = next((tmp_path / "journal" / "predictions").iterdir())
    kept = journal.read_bytes()
    log.close()
    (part,) = parts(tmp_path)
    journal.write_bytes(kept)  # the kill came after the copy, before its name
    part.rename(part.with_name(f".{part.stem}.0a1b2c3d.partial.parquet"))
    opened(tmp_path).close()
    assert parts(tmp_path) == [part] and part_rows(tmp_path) == [1]


def test_a_recovery_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for index in range(5):
        log.append(row(f"e{index}"))
    log.flush()
    journal = next((tmp_path / "journal" / "predictions").iterdir())
    kept = journal.read_bytes()
    log.close()
    journal.write_bytes(kept)  # the crash came after the part, before the journal's end
    opened(tmp_path).close()
    assert part_rows(tmp_path) == [5]
    assert not journal.exists()


def test_a_damaged_journal_is_kept_and_reported(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for index in range(2):
        log.append(row(f"e{index}"))
        log.flush()
    journal = next((tmp_path / "journal" / "predictions").iterdir())
    data = bytearray(journal.read_bytes())
    log.close()
    for path in parts(tmp_path):
        path.unlink()
    data[-50] ^= 1
    journal.write_bytes(data)
    reported: list[StorageError] = []
    PredictionLog(LogConfig(str(tmp_path)), reported.append).close()
    assert "is damaged: " in str(reported[0]) and "1 rows are lost; it is kept as" in str(
        reported[0]
    )
    assert "1 rows are lost" in journal.with_suffix(".reason").read_text()
    assert ids(tmp_path) == ["e0"]
    assert journal.with_suffix(".damaged").read_bytes() == data


FULL_DISK = """
import resource, signal, sys, time
from inference_graph.prediction_log.writer import LogConfig, PredictionLog
from log_samples import row
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
reported = []
log = PredictionLog(LogConfig(sys.argv[1], flush_seconds=0.02, queue_rows=50), reported.append)
log.append(row("before"))
assert log.flush(30)
# From here on no file may grow, as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (log.status.backlog_bytes + 100, resource.RLIM_INFINITY))
for index in range(200):
    start = time.monotonic()
    log.append(row(f"full{index:03}"))
    assert time.monotonic() - start < 5
assert not log.flush(1.0)
status = log.status
assert status.dropped == 150 and status.queued == 50 and status.stored == 1, status
assert "cannot be written" in str(status.failure), status
assert sum("cannot be written" in str(error) for error in reported) == 1, reported
assert all(error.http_status == 507 for error in reported)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert log.flush(30)
log.append(row("later"))
status = log.close()
assert status.stored == 52 and status.failure is None, status
print("served on")
"""


def test_a_full_disk_never_stops_the_answers(tmp_path: Path) -> None:
    process = child(str(tmp_path), program=FULL_DISK)
    answer, _ = process.communicate(timeout=120)
    assert answer == "served on\n" and process.returncode == 0
    assert ids(tmp_path) == sorted(["before", *(f"full{index:03}" for index in range(50)), "later"])


def test_the_journal_stops_growing_at_its_limit(tmp_path: Path) -> None:
    reported: list[StorageError] = []
    place = tmp_path / "log"
    log = PredictionLog(
        LogConfig(str(place), tmp_path / "journal", flush_seconds=FAST, journal_limit_bytes=20_000),
        reported.append,
    )
    place.write_text("a file where the log's folder should be")
    for index in range(3000):
        log.append(row(f"e{index}", observation=[1.0] * 100))
        if index % 100 == 0:
            log.flush(0.2)
    status = log.close(5)
    assert 15_000 <= status.backlog_bytes <= 20_000
    assert status.dropped > 0 and status.stored + status.dropped == 3000
    assert reported and status.failure is not None
    place.unlink()  # the place is back, and so is all that was stored
    PredictionLog(LogConfig(str(place), tmp_path / "journal")).close()
    # What came first is what is kept.
    assert set(ids(place)) == {f"e{index}" for index in range(status.stored)}


def test_a_log_needs_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the log's folder"):
        opened(tmp_path / "file" / "log")


@pytest.mark.parametrize(
    "options",
    [
        {"flush_seconds": 0},
        {"flush_seconds": float("nan")},
        {"observation_share": 1.5},
        {"queue_rows": 0},
        {"roll_seconds": 0.5},
        {"journal_limit_bytes": 0},
        {"recent_rows": -1},
        {"roll_bytes": 5},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} is"):
        LogConfig("log", **options)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    with opened(tmp_path, recent_rows=100) as log:
        for index in range(1000):
            log.append(row(f"e{index}"))
        log.flush()
        assert len(log._predictions.recent) == 100
        assert log.status.queued == 0


def test_rows_know_nothing_of_each_other() -> None:
    one, other = row("e0"), row("e1")
    assert isinstance(one.tags, dict)
    one.tags["site"] = "gate"
    assert other.tags == {} == row("e2").tags
