from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from log_rows import NOON, failed_row, open_log, sample_row, write_sample

from dashboards.log.columns import STAGES, Words, bin_ms, bin_range, bins, narrow
from dashboards.log.figures import Filter, without
from dashboards.log.memory import LogMemory
from dashboards.log.queries import LogQueries, step_seconds
from foundation.errors import ConfigurationError, StorageError
from inference_graph.contract import LADDER
from inference_graph.prediction_log.columns import PREDICTIONS, to_batch
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.row import PredictionRow

FAILED = {f"failed-{index}" for index in range(3)}
"""They share their times with answers, and are in every choice that tells nothing of an answer."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PredictionRow]]:
    folder = tmp_path_factory.mktemp("sample")
    return folder, write_sample(folder)


@pytest.fixture(scope="module")
def queries(sample: tuple[Path, list[PredictionRow]]) -> Iterator[LogQueries]:
    opened = LogQueries(str(sample[0]), 10**6, 2)
    assert opened.refresh(60).complete
    yield opened
    opened.close()


def answered(rows: list[PredictionRow], **fields: object) -> list[PredictionRow]:
    return [
        row
        for row in rows
        if row.answered_by and all(getattr(row, name) == value for name, value in fields.items())
    ]


def test_sums_are_those_of_the_rows(
    queries: LogQueries, sample: tuple[Path, list[PredictionRow]]
) -> None:
    rows = sample[1]
    totals = queries.totals()
    good = answered(rows)
    assert totals.frames == {rung: len(answered(rows, answered_by=rung)) for rung in LADDER}
    assert (totals.answered, totals.failed, totals.rows) == (600, 3, 603)
    assert totals.fallbacks == sum(row.fallback != "" for row in rows) > 0
    assert totals.dropped == sum(row.dropped_before for row in rows) == 30
    busy = [row.observe_ms + row.decide_ms + row.detect_ms for row in good]
    assert totals.busy_ms == pytest.approx(np.mean(busy), rel=1e-6)
    large = [
        row.observe_ms + row.decide_ms + row.detect_ms for row in good if row.answered_by == "large"
    ]
    assert totals.reference_ms == pytest.approx(np.mean(large), rel=1e-6)
    assert totals.shadow_ms == pytest.approx(80 * sum(row.shadow for row in rows) / 600)
    assert totals.policies == {"0123456789ab": 600}
    assert (totals.first, totals.last) == (rows[0].time, max(row.time for row in rows))
    assert sum(totals.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("stage", STAGES)
def test_percentiles_are_within_a_hundredth(
    queries: LogQueries, sample: tuple[Path, list[PredictionRow]], stage: str
) -> None:
    times = [getattr(row, f"{stage}_ms") for row in answered(sample[1])]
    histogram = queries.stages()[stage]
    assert histogram.frames.sum() == 600
    for share in (0.5, 0.95, 0.99):
        exact = np.quantile(times, share, method="inverted_cdf")
        assert histogram.percentile(share) == pytest.approx(exact, rel=0.0101)


def test_filters_choose_rows(queries: LogQueries, sample: tuple[Path, list[PredictionRow]]) -> None:
    rows = answered(sample[1])
    start, end = rows[100].time, rows[200].time
    for chosen, wanted in (
        (Filter(since=start, until=end), {*range(100, 200)}),
        (Filter(sessions=("robot-1", "robot-3")), {*range(1, 600, 2)}),
        (Filter(sessions=("nobody",)), set()),
        (Filter(conditions=("",)), {*range(2, 600, 3)}),
        (Filter(conditions=("day", "")), {i for i in range(600) if i % 3 != 1}),
        (Filter(rungs=("large",)), {i for i, row in enumerate(rows) if row.answered_by == "large"}),
        (Filter(fallbacks=True), {i for i, row in enumerate(rows) if row.fallback}),
        (Filter(images=True), {*range(0, 600, 25)}),
        (
            Filter(since=start, rungs=("nano",), conditions=("night",)),
            {i for i in range(100, 600) if rows[i].answered_by == "nano" and i % 3 == 1},
        ),
    ):
        assert queries.totals(chosen).answered == len(wanted), chosen
        found = {frame.event_id for frame in queries.frames(chosen, 1000)} - FAILED
        assert found == {f"event-{index}" for index in wanted}, chosen


def test_a_range_of_latency_is_one_of_bins(
    queries: LogQueries, sample: tuple[Path, list[PredictionRow]]
) -> None:
    times = np.array([row.total_ms for row in answered(sample[1])])
    middles = bin_ms(bins(times))
    found = queries.totals(Filter(total_ms=(10.0, 30.0))).answered
    assert found == ((middles >= 10) & (middles <= 30)).sum()
    assert abs(found - ((times >= 10) & (times <= 30)).sum()) <= 10
    assert np.all(np.abs(middles / times - 1) <= 0.0101)
    assert bin_range(0.0, 1e9) == (0, bins(np.array([1e12]))[0])


def test_time_goes_in_even_steps_and_none_is_missing(
    queries: LogQueries, sample: tuple[Path, list[PredictionRow]]
) -> None:
    line = queries.timeline()
    assert line.seconds == 5 == step_seconds(600) < step_seconds(601)
    assert len(line.start) == 120 and line.start[0] == NOON + timedelta(minutes=55)
    assert all(
        later - start == timedelta(seconds=5)
        for start, later in zip(line.start, line.start[1:], strict=False)
    )
    assert (line.answered == 5).all() and line.failed.sum() == 3
    assert line.failed[12] == 3  # they came in the second minute
    gap = Filter(sessions=("robot-0",), since=NOON + timedelta(minutes=56))
    assert queries.timeline(gap).answered.sum() == 135
    quiet = queries.timeline(Filter(sessions=("nobody",)))
    assert (len(quiet.start), quiet.answered.sum()) == (0, 0)


def test_counts_by_condition_session_and_rung(
    queries: LogQueries, sample: tuple[Path, list[PredictionRow]]
) -> None:
    rows = sample[1]
    by_condition = queries.conditions()
    assert {name: sum(counts.values()) for name, counts in by_condition.items()} == {
        "day": 200,
        "night": 200,
        "": 200,
    }
    assert by_condition["night"]["small"] == sum(
        row.tags.get("condition") == "night" and row.answered_by == "small" for row in rows
    )
    assert list(queries.sessions()) == [f"robot-{index}" for index in range(4)]
    latencies = queries.latency_by_rung()
    assert {rung: h.frames.sum() for rung, h in latencies.items()} == dict(queries.totals().frames)


def test_agreement_counts_large_as_itself(
    queries: LogQueries, sample: tuple[Path, list[PredictionRow]]
) -> None:
    rows = answered(sample[1])
    looked = [row.agreement for row in rows if row.shadow]
    large = sum(row.answered_by == "large" for row in rows) / 600
    found = queries.agreement()
    assert found.share == pytest.approx(large + (1 - large) * np.mean(looked), rel=1e-6)
    assert found.shadowed == len(looked)
    assert found.unit == "minutes" and found.low < found.share < found.high  # only four sessions


def test_frames_come_back_whole(
    queries: LogQueries, sample: tuple[Path, list[PredictionRow]]
) -> None:
    listed = queries.frames(Filter(images=True), 3)
    assert [frame.event_id for frame in listed] == ["event-575", "event-550", "event-525"]
    assert all(frame.values["image_kept"] and frame.image is None for frame in listed)
    whole = queries.frame(listed[0].key)
    row = next(row for row in sample[1] if row.event_id == "event-575")
    assert whole is not None and whole.image == row.image
    assert whole.observation is not None
    assert np.array_equal(whole.observation, np.asarray(row.observation, np.float32))
    assert whole.seen.boxes.tolist() == [[10, 60, 40, 80], [80, 50, 120, 90]]
    assert whole.milliseconds("total") == row.total_ms
    assert math.isnan(queries.frame(listed[0].key).milliseconds("none"))  # type: ignore[union-attr]  # found above
    for key in ("", "nonsense", "5-event-1", listed[0].key + "x", "9" * 30 + "-event-1"):
        assert queries.frame(key) is None


def test_rows_are_there_before_they_are_in_a_part_and_count_once_after(tmp_path: Path) -> None:
    queries = LogQueries(str(tmp_path), 10**6, 2)
    assert queries.refresh(60).parts_found == 0
    assert queries.totals().rows == 0 and queries.span() is None
    assert queries.timeline().start == () and math.isnan(queries.agreement().share)
    with open_log(tmp_path) as log:
        for index in range(30):
            log.append(sample_row(index, NOON + timedelta(seconds=index)))
        assert log.flush(60)
        queries.refresh(60)
        assert queries.totals().rows == 30
        assert {frame.event_id for frame in queries.frames(None, 99)} == {
            f"event-{index}" for index in range(30)
        }
        log.append(sample_row(30, NOON))
        assert log.flush(60)
        queries.refresh(60)
        assert queries.totals().rows == 31
    # Closing the log has made a part of the journal.
    assert list(tmp_path.rglob("*.parquet"))
    queries.refresh(60)
    assert queries.totals().rows == 31
    queries.close()


def test_a_journal_that_is_being_published_counts_once(tmp_path: Path) -> None:
    with open_log(tmp_path / "log") as log:
        for index in range(10):
            log.append(sample_row(index, NOON + timedelta(seconds=index)))
        assert log.flush(60)
        shutil.copytree(tmp_path / "log" / "journal", tmp_path / "journal")
    queries = LogQueries(str(tmp_path / "log"), 10**6, 2)
    # As in the moment between a part's appearing and its journal's end.
    (journal,) = (tmp_path / "journal" / "predictions").iterdir()
    (part,) = (tmp_path / "log").rglob("*.parquet")
    assert part.stem == f"part-{journal.stem}"
    there = tmp_path / "log" / "journal" / "predictions"
    there.mkdir(parents=True, exist_ok=True)
    shutil.copy(journal, there / journal.name)
    queries.refresh(60)
    assert queries.totals().rows == 10
    (there / journal.name).unlink()
    queries.refresh(60)
    assert queries.totals().rows == 10
    queries.close()


def test_a_broken_part_is_reported_and_the_others_are_shown(tmp_path: Path) -> None:
    write_sample(tmp_path, 400)
    parts = sorted(tmp_path.rglob("*.parquet"))
    assert len(parts) == 2  # two hours
    kept = pq.read_metadata(parts[1]).num_rows
    parts[0].write_bytes(b"PAR1 this is no parquet")
    queries = LogQueries(str(tmp_path), 10**6, 2)
    reading = queries.refresh(60)
    assert queries.totals().rows == kept
    (problem,) = reading.problems
    assert parts[0].name in problem and "restore or remove it" in problem
    queries.close()


def test_a_log_without_the_newer_columns_is_read(tmp_path: Path) -> None:
    write_sample(tmp_path, 30)
    for part in tmp_path.rglob("*.parquet"):
        table = pq.ParquetFile(part).read().drop_columns(["condition", "image_kept", "image"])
        pq.write_table(table, part)
    queries = LogQueries(str(tmp_path), 10**6, 2)
    queries.refresh(60)
    assert {name: sum(counts.values()) for name, counts in queries.conditions().items()} == {
        "day": 10,
        "night": 10,
        "": 10,
    }
    assert queries.totals(Filter(images=True)).rows == 0
    (frame,) = queries.frames(None, 1)
    assert queries.frame(frame.key).image is None  # type: ignore[union-attr]  # it is there
    queries.close()


def test_memory_holds_the_newest_rows_only(tmp_path: Path) -> None:
    for hour in range(4):
        with open_log(tmp_path) as log:
            for index in range(500):
                log.append(
                    sample_row(hour * 500 + index, NOON + timedelta(hours=hour, seconds=index))
                )
            assert log.flush(60)
    queries = LogQueries(str(tmp_path), 1000, 1)
    queries._memory._rows = 1000
    queries.refresh(60)
    while not queries._memory.reading.complete:
        time.sleep(0.01)
    span = queries.span()
    assert span is not None and span[1] == NOON + timedelta(hours=3, seconds=499)
    assert queries.totals().rows <= 1100
    queries.close()


def test_hours_that_are_removed_are_forgotten(tmp_path: Path) -> None:
    for hour in range(2):
        with open_log(tmp_path) as log:
            for index in range(20):
                log.append(
                    sample_row(hour * 20 + index, NOON + timedelta(hours=hour, seconds=index))
                )
            assert log.flush(60)
    queries = LogQueries(str(tmp_path), 10**6, 2)
    queries.refresh(60)
    assert queries.totals().rows == 40
    shutil.rmtree(next(tmp_path.rglob("hour=12")))
    queries._memory._listed_at = -math.inf
    queries.refresh(60)
    assert queries.totals().rows == 20
    queries.close()


def test_columns_that_are_not_there_count_as_unknown() -> None:
    batch = to_batch(PREDICTIONS, [sample_row(0, NOON), failed_row(0, NOON)])
    import pyarrow as pa

    words = Words()
    table = narrow(pa.Table.from_batches([batch]).select(["time", "session"]), words)
    assert table["answered"].to_pylist() == [255, 255]
    assert table["total_bin"].to_pylist() == [-1, -1]
    assert table["busy_ms"].to_pylist() == [None, None]
    assert [words.name(number) for number in table["session"].to_pylist()] == ["robot-0"] * 2


def test_a_lifted_condition_is_the_only_one() -> None:
    chosen = Filter(rungs=("nano",), fallbacks=True, total_ms=(1.0, 2.0))
    assert without(chosen, "rungs", "total_ms") == Filter(fallbacks=True)


def test_who_asks_at_the_end_gets_an_answer(tmp_path: Path) -> None:
    write_sample(tmp_path, 60)
    memory = LogMemory(open_place(str(tmp_path)), 10**6, 2)
    asked = threading.Event()
    answers: list[Any] = []

    def ask() -> None:
        with memory.cursor() as cursor:
            asked.set()
            answers.extend(
                cursor.execute("SELECT sum(i % 7) FROM range(300_000_000) t(i)").fetchone() or ()
            )

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait()
    memory.close()
    thread.join()
    # 300,000,000 = 7 * 42,857,142 + 6: whole turns of 0 to 6, then 0 to 5.
    assert answers == [42_857_142 * 21 + 15]


def test_a_file_in_place_of_the_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    queries = LogQueries(str(tmp_path / "log"), 1000, 1)
    with pytest.raises(StorageError, match="log is a file; give the folder"):
        queries.refresh()
    queries.close()


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ftp://"):
        LogQueries("ftp://somewhere/log", 1000, 1)


def test_savings_are_those_of_the_same_frames(tmp_path: Path) -> None:
    """Large is slow on hard frames; only frames that both rungs took are compared."""
    rows = []
    for index in range(40):
        session, took = f"robot-{index % 2}", {"observe_ms": 1.0, "decide_ms": 1.0}
        if index % 4 == 3:  # large's own frames, ten times as slow: they must not count as a saving
            answer = {"rung": "large", "answered_by": "large", "detect_ms": 1000.0}
        else:
            answer = {
                "rung": "nano",
                "answered_by": "nano",
                "detect_ms": 8.0,
                "shadow": True,
                "shadow_ms": 90.0 if session == "robot-0" else 110.0,
                "agreement": 0.5,
            }
        rows.append(
            sample_row(
                index,
                NOON + timedelta(seconds=index),
                session=session,
                fallback="",
                **(took | {"shadow": False, "shadow_ms": None, "agreement": None} | answer),
            )
        )
    with open_log(tmp_path / "log") as log:
        for row in rows:
            log.append(row)
        assert log.flush(60)
    queries = LogQueries(str(tmp_path / "log"), 10**6, 1)
    try:
        assert queries.refresh(60).complete
        found = queries.saved()
        # 20 frames of robot-0 at 90 - 10, 10 of robot-1 at 110 - 10; a quarter of the frames are
        # large's own, on which routing costs the router's 2 ms.
        mean = (20 * 80.0 + 10 * 100.0) / 30
        assert found.ms == pytest.approx(0.75 * mean - 0.25 * 2.0, rel=2e-3)
        # One minute, two sessions: two clusters, Student's t with one degree of freedom.
        error = math.sqrt(2 * sum((n * (x - mean)) ** 2 for n, x in ((20, 80.0), (10, 100.0)))) / 30
        assert found.high - found.ms == pytest.approx(0.75 * 12.7062 * error, rel=5e-3)
        assert found.ms - found.low == pytest.approx(found.high - found.ms)
        line = queries.timeline()
        # Of every 4 frames large answered one, and half of the rest agrees.
        assert float(np.nanmean(line.agreement)) == pytest.approx(0.25 + 0.75 * 0.5, abs=0.08)
    finally:
        queries.close()


def test_savings_where_no_shadow_has_looked(tmp_path: Path) -> None:
    queries = LogQueries(str(tmp_path / "log"), 10**6, 1)
    queries.refresh(60)
    assert math.isnan(queries.saved().ms)
    queries.close()


def test_a_policy_is_deployed_where_it_answers_first(tmp_path: Path) -> None:
    with open_log(tmp_path / "log") as log:
        for index, revision in enumerate(["a", "a", "b", "a", "c"]):
            time = NOON + timedelta(seconds=index)
            log.append(sample_row(index, time, policy_revision=revision, session=f"s{index % 2}"))
        assert log.flush(60)
    queries = LogQueries(str(tmp_path / "log"), 10**6, 1)
    try:
        assert queries.refresh(60).complete
        seconds = [((time - NOON).total_seconds(), name) for time, name in queries.deployments()]
        assert seconds == [(2, "b"), (4, "c")]
        assert queries.deployments(Filter(sessions=("s1",))) == []
    finally:
        queries.close()
