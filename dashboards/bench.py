"""How fast the dashboard is on a large log, against reading the same columns with pandas."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from dashboards.log.columns import READ
from dashboards.log.figures import Filter, without
from dashboards.log.queries import LogQueries
from foundation.configuration import configuration
from inference_graph.contract import LADDER
from inference_graph.prediction_log.place import HOUR, part_folder
from inference_graph.prediction_log.row import SCHEMA

Progress = Callable[[int, int | None], None]

_GROUP_BYTES = 2 * 1024 * 1024
"""Length of a row group, as the log's writer makes them."""
_KINDS = 6
"""Different hours that are made; the others repeat them at their own time."""
_PATIENCE = 600.0


@configuration
class BenchDashboardConfig:
    """How large the log is, and how it is asked.

    Attributes:
        rows: answers in the log.
        days: days they are spread over, in hourly parts.
        sessions: sessions under way in each hour.
        repeats: times each filter is asked.
        threads: threads that read and answer.
        compare: also read the same columns with pandas, and filter there.
        seed: of the rows.
    """

    rows: Annotated[int, Field(ge=1000, le=10**9)] = 10_000_000
    days: Annotated[int, Field(ge=1, le=366)] = 7
    sessions: Annotated[int, Field(ge=1, le=10_000)] = 20
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    compare: bool = True
    seed: int = 0


def bench_dashboard(
    config: BenchDashboardConfig, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a log to a temporary folder, open it, and ask what the pages ask.

    Args:
        config: how large, and how often.
        progress: called with the parts written so far and their number.

    Returns:
        ``open_s``: from nothing to every figure of the newest day; ``whole_s``: until all rows are
        in memory; ``filter_ms_p50`` and ``filter_ms_p95``: everything the explore page shows, over
        the whole log, under filters of every kind; ``live_ms_p50``: everything the live page
        shows; with ``compare`` the same of pandas (``pandas_open_s``, ``pandas_filter_ms_p50``),
        which reads all and answers counts by time and rung only; sizes of it all.

    Raises:
        StorageError: the temporary folder cannot be written or read.
    """
    with tempfile.TemporaryDirectory(prefix="gearshift-dashboard-") as name:
        folder = Path(name)
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        rows, size = write_log(folder, config, end, progress)
        found: dict[str, Any] = {"rows": rows, "log_bytes": size}
        found |= _ours(folder, config, end)
        if config.compare:
            found |= _pandas(folder, config)
    return found


def write_log(
    folder: Path,
    config: BenchDashboardConfig,
    end: datetime,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Write the log's parts; rows and bytes of them.

    Every column of ``SCHEMA`` is there, as a stream of a small fleet fills it.
    """
    hours = config.days * 24
    each = max(config.rows // hours, 1)
    kinds = [_hour(each, config, kind) for kind in range(min(_KINDS, hours))]
    size = 0
    for number in range(hours):
        start = end - HOUR * (hours - number)
        table = _moved(kinds[number % len(kinds)], start, number)
        path = folder / part_folder("predictions", start) / f"part-bench-{number:06d}.parquet"
        path.parent.mkdir(parents=True)
        group = max(int(_GROUP_BYTES / (table.nbytes / len(table))), 1)
        pq.write_table(table, path, compression="zstd", row_group_size=group)
        size += path.stat().st_size
        if progress is not None:
            progress(number + 1, hours)
    return each * hours, size


def _ours(folder: Path, config: BenchDashboardConfig, end: datetime) -> dict[str, Any]:
    start = time.perf_counter()
    log = LogQueries(str(folder), config.rows * 2, config.threads)
    day = Filter(since=end - timedelta(days=1))
    log.refresh(0.0)
    while log.reading.parts < min(24, config.days * 24):
        time.sleep(0.005)
    _explore(log, day)
    opened = time.perf_counter() - start
    log.refresh(_PATIENCE)
    while not log.reading.complete:
        time.sleep(0.005)
    whole = time.perf_counter() - start
    filters = _filters(config, end)
    explored = [_timed(_explore, log, chosen) for _ in range(config.repeats) for chosen in filters]
    lived = [
        _timed(_live, log, Filter(since=end - timedelta(minutes=15))) for _ in range(config.repeats)
    ]
    log.close()
    return {
        "open_s": round(opened, 3),
        "whole_s": round(whole, 3),
        "filter_ms_p50": round(float(np.percentile(explored, 50)), 1),
        "filter_ms_p95": round(float(np.percentile(explored, 95)), 1),
        "live_ms_p50": round(float(np.percentile(lived, 50)), 1),
        "filters": len(filters),
    }


def _filters(config: BenchDashboardConfig, end: datetime) -> list[Filter]:
    """One of each kind, most of them over the whole log."""
    return [
        Filter(),
        Filter(rungs=("small",)),
        Filter(rungs=("nano", "large")),
        Filter(conditions=("night",)),
        Filter(sessions=("robot-0003",)),
        Filter(fallbacks=True),
        Filter(total_ms=(10.0, 40.0)),
        Filter(since=end - timedelta(days=config.days / 2)),
        Filter(since=end - timedelta(hours=6), conditions=("rain", "day"), rungs=("small",)),
    ]


def _explore(log: LogQueries, chosen: Filter) -> None:
    """Everything that the explore page asks for its figures when the filter changes."""
    log.totals(chosen)
    log.stages(chosen)
    log.agreement(chosen)
    log.timeline(chosen)
    log.latency_by_rung(without(chosen, "total_ms"))
    log.conditions(without(chosen, "conditions"))
    log.sessions(without(chosen, "sessions"))


def _live(log: LogQueries, chosen: Filter) -> None:
    log.totals(chosen)
    log.timeline(chosen)
    log.stages(chosen)
    log.agreement(chosen)


def _timed(ask: Callable[[LogQueries, Filter], None], log: LogQueries, chosen: Filter) -> float:
    start = time.perf_counter()
    ask(log, chosen)
    return (time.perf_counter() - start) * 1e3


def _pandas(folder: Path, config: BenchDashboardConfig) -> dict[str, Any]:
    """The plain way: the same columns of all parts as one data frame."""
    import pandas as pd

    start = time.perf_counter()
    columns = [name for name in READ if name != "image_kept"]
    frame = pd.concat(
        [pd.read_parquet(path, columns=columns) for path in sorted(folder.rglob("*.parquet"))],
        ignore_index=True,
    )
    opened = time.perf_counter() - start
    asked = []
    for _ in range(min(config.repeats, 2)):
        for rung in LADDER:
            start = time.perf_counter()
            chosen = frame[frame["answered_by"] == rung]
            chosen.groupby([chosen["time"].dt.floor("h"), "answered_by"]).size()
            chosen["total_ms"].quantile([0.5, 0.95, 0.99])
            asked.append((time.perf_counter() - start) * 1e3)
    return {
        "pandas_open_s": round(opened, 3),
        "pandas_filter_ms_p50": round(float(np.percentile(asked, 50)), 1),
    }


def _hour(rows: int, config: BenchDashboardConfig, kind: int) -> pa.Table:
    """An hour's rows, times from 0 on, in columns of ``SCHEMA``."""
    generator = np.random.default_rng([config.seed, kind])
    rung = generator.choice(3, rows, p=(0.12, 0.8, 0.08))
    late = generator.random(rows) < 0.004
    answered = np.where(late, 1, rung)
    session = generator.integers(0, config.sessions, rows)
    found = generator.poisson(5, rows)
    shadow = (answered < 2) & (generator.random(rows) < 0.05)
    detect = np.array([6.0, 13.0, 78.0])[answered] * generator.lognormal(0, 0.08, rows)
    times = {
        "decode_ms": generator.lognormal(0, 0.2, rows),
        "observe_ms": generator.lognormal(-0.8, 0.1, rows),
        "decide_ms": generator.lognormal(-3.5, 0.2, rows),
        "queue_ms": generator.exponential(1.5, rows),
        "detect_ms": detect,
    }
    times["total_ms"] = np.sum([*times.values()], axis=0) + 0.8
    conditions = np.array(["day", "night", "rain", "fog"])[session % 4]
    names = np.array([f"robot-{number:04d}" for number in range(config.sessions)])
    ladder = np.array(LADDER)
    made: dict[str, Any] = {
        "time": np.sort(generator.integers(0, 3_600_000_000, rows)),
        "source": _repeated("stream", rows),
        "session": pa.array(names[session]),
        "frame_id": np.arange(rows),
        "client": _repeated("fleet", rows),
        "policy_revision": _repeated("0123456789ab", rows),
        "latency_weight": np.full(rows, 0.1),
        "rung": pa.array(ladder[rung]),
        "answered_by": pa.array(ladder[answered]),
        "revision": _repeated("ba9876543210", rows),
        "fallback": pa.array(np.where(late & (rung != 1), "late", "")),
        "probabilities": _lists(np.full(rows, 3), generator.random(3 * rows), pa.float32()),
        "load_ms": _lists(np.full(rows, 3), np.zeros(3 * rows), pa.float32()),
        **times,
        "deadline_ms": np.full(rows, 1000.0),
        "width": np.full(rows, 640),
        "height": np.full(rows, 480),
        "image_bytes": generator.integers(30_000, 60_000, rows),
        "brightness": generator.random(rows),
        "edge_density": generator.random(rows) * 0.3,
        "boxes": _lists(4 * found, generator.random(4 * found.sum()) * 640, pa.float32()),
        "scores": _lists(found, generator.random(found.sum()), pa.float32()),
        "labels": _lists(found, generator.integers(0, 9, found.sum()), pa.int32()),
        "detections": found,
        "shadow": shadow,
        "shadow_ms": pa.array(np.where(shadow, 80.0, np.nan), from_pandas=True),
        "agreement": pa.array(
            np.where(shadow, generator.choice([1.0, 0.9, 0.8, 0.5], rows), np.nan),
            from_pandas=True,
        ),
        "dropped_before": (generator.random(rows) < 0.002).astype(np.int32),
        "tags": _tags(conditions),
        "error": _repeated("", rows),
        "condition": pa.array(conditions),
        "image_kept": np.zeros(rows, np.bool_),
    }
    columns = {
        name: pa.array(values) if isinstance(values, np.ndarray) else values
        for name, values in made.items()
    }
    return pa.table(
        {
            field.name: columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(rows, field.type)
            for field in SCHEMA
        }
    )


def _moved(hour: pa.Table, start: datetime, number: int) -> pa.Table:
    """An hour's rows at another time, with keys of their own."""
    first = int(start.timestamp()) * 1_000_000
    times = pa.array(np.asarray(hour["time"].cast(pa.int64())) + first)
    keys = pa.array([f"{number:05d}-{index:08d}" for index in range(len(hour))])
    for name, column in (("time", times), ("event_id", keys)):
        place = SCHEMA.get_field_index(name)
        hour = hour.set_column(place, name, column.cast(SCHEMA.field(name).type))
    return pa.Table.from_arrays(hour.columns, schema=SCHEMA)


def _repeated(text: str, rows: int) -> pa.Array:
    return pa.array(np.full(rows, text))


def _lists(
    lengths: npt.NDArray[np.integer], values: npt.NDArray[np.generic], kind: pa.DataType
) -> pa.Array:
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values).cast(kind))


def _tags(conditions: npt.NDArray[np.str_]) -> pa.Array:
    """A tag ``condition`` in every row."""
    keys = _repeated("condition", len(conditions))
    return pa.MapArray.from_arrays(
        np.arange(len(conditions) + 1, dtype=np.int32), keys, pa.array(conditions)
    )
