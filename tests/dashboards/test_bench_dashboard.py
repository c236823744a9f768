from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dashboards.bench import BenchDashboardConfig, bench_dashboard, write_log
from dashboards.log.queries import LogQueries
from foundation.errors import ConfigurationError
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.row import SCHEMA

END = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_the_log_is_one_as_the_gateway_writes_it(tmp_path: Path) -> None:
    config = BenchDashboardConfig(rows=2400, days=1, sessions=4)
    rows, size = write_log(tmp_path, config, END)
    table = read_log(str(tmp_path))  # which drops what comes twice
    assert len(table) == rows == 2400 and table.schema == SCHEMA
    assert size == sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert len(list(tmp_path.rglob("*.parquet"))) == 24
    assert set(table["session"].to_pylist()) == {f"robot-{number:04d}" for number in range(4)}
    log = LogQueries(str(tmp_path), 10**6, 1)
    log.refresh(60)
    assert log.totals().answered == 2400
    assert log.span() == (table["time"][0].as_py(), table["time"][-1].as_py())
    log.close()


def test_everything_is_measured() -> None:
    found = bench_dashboard(BenchDashboardConfig(rows=2400, days=1, repeats=1))
    assert found["rows"] == 2400
    assert 0 < found["open_s"] <= found["whole_s"]
    assert 0 < found["filter_ms_p50"] <= found["filter_ms_p95"]
    assert found["live_ms_p50"] > 0 and found["pandas_open_s"] > 0


@pytest.mark.parametrize("name", ["rows", "days", "sessions", "repeats", "threads"])
def test_values_out_of_range_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        BenchDashboardConfig(**{name: 0})
